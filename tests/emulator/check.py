"""Try every kernel of a built library, in a process of its own: `python check.py LIBRARY full|small [KERNEL...]`.

Says what is wrong and exits with 1; sanitizers end the process in their own way.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from emulator import EmulatedError, Kernels
from emulator.cases import CASES, FULL, SMALL
from emulator.launches import Faults


def main(library: str, effort: str, *names: str) -> int:
    kernels = Kernels(Path(library))
    for name in names or CASES:
        try:
            CASES[name](kernels, {"full": FULL, "small": SMALL}[effort])
        except (AssertionError, EmulatedError, Faults) as error:
            print(f"{name}: {type(error).__name__}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
