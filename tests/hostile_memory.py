"""Builds of all hostile blocks and undo data under a limit of address space; a process of its own.

Prints how many were refused, and the most memory that was in use beyond what there was before, in MiB.
"""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

from make_chain import FilePair, pay, spending_chain, write_folder
from test_named_damage import BODIES, UNDO, Output

from utxo_index.build import build_index
from utxo_index.errors import InputError

ROOM_BYTES = 1 << 30


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    chain = spending_chain()
    pays = pay([chain[3].coinbase], [Output(1)])
    good = b"\x01\x01" + chain[7].spent[0][0].undo
    blocks = [chain[-1].child(body=body, undo=b"\x00" if body[:1] == b"\x01" else good) for body in BODIES.values()]
    blocks += [chain[-1].child(pays, undo=undo, claim_sats=0) for name, undo in UNDO.items() if name != "right"]
    n_refused = 0
    before = None
    for block in (chain[-1].child(), *blocks):
        with tempfile.TemporaryDirectory() as place:
            folder = write_folder(Path(place) / "blocks", [FilePair.of(*chain, block)])
            try:
                build_index(folder, index_folder=Path(place) / "index", threads=1)
            except InputError:
                n_refused += 1
        if before is None:  # the first one is sound, and has started all there is
            before = peak_bytes()
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + ROOM_BYTES, used + ROOM_BYTES))
    print(n_refused, len(blocks), (peak_bytes() - (before or 0)) >> 20)


main()
