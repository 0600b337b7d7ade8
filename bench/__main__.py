"""The standard set of measurements, as one Markdown report.

    python -m bench [PART …] [--bytes 7.6GB | --chain FOLDER] [-o FILE]

Without PART all of them, about twenty minutes on two cores; each can be run alone, as `python -m bench peers` or with
options of its own as `python -m bench.peers`.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import machine, report, standard_chain
from bench.report import Section


def _stages(root: Path) -> list[Section]:
    from bench import stages

    return [stages.section(root)]


def _build_speed(root: Path) -> list[Section]:
    from bench import build_speed

    return build_speed.sections(root, 3, 3, say)


def _peers(root: Path) -> list[Section]:
    from bench import peers

    return [peers.section(root)]


def _start_times(root: Path | None) -> list[Section]:
    from bench import start_times

    return [start_times.section()]


def _query_index(root: Path | None) -> list[Section]:
    from bench import query_index

    return [query_index.section(query_index.HEIGHTS, query_index.ROWS_PER_BLOCK, query_index.REPEATS)]


def _row_queries(root: Path | None) -> list[Section]:
    # in a process of its own: it binds itself to one core before any engine counts them
    command = [sys.executable, "-m", "bench.row_queries"]
    ran = subprocess.run(command, cwd=machine.REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    return [Section("Queries on rows", text=ran.stdout.strip())]


def _snapshots(root: Path | None) -> list[Section]:
    from bench import snapshots

    return [snapshots.section(snapshots.N_COINS, 3, 2)]


def _update_speed(root: Path | None) -> list[Section]:
    from bench import update_speed

    with tempfile.TemporaryDirectory() as folder:
        return [update_speed.section(update_speed.COINS, update_speed.BLOCKS, Path(folder))]


def _card_bounds(root: Path | None) -> list[Section]:
    from bench import card_bounds

    return [card_bounds.section()]


def _history(root: Path | None) -> list[Section]:
    from bench import history

    return [history.section(history.ROWS, history.PARQUET_ROWS, history.REPEATS)]


CHAIN_PARTS: dict[str, Callable[[Path], list[Section]]] = {
    "build_speed": _build_speed,
    "stages": _stages,
    "peers": _peers,
}
OTHER_PARTS: dict[str, Callable[[Path | None], list[Section]]] = {
    "start_times": _start_times,
    "query_index": _query_index,
    "row_queries": _row_queries,
    "snapshots": _snapshots,
    "update_speed": _update_speed,
    "card_bounds": _card_bounds,
    "history": _history,
}


def say(text: str) -> None:
    """On standard error, as the report goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*OTHER_PARTS, *CHAIN_PARTS]
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(names))
    parser.add_argument("-o", dest="output", type=Path, help="also write the report here")
    standard_chain.add_options(parser)
    arguments = parser.parse_args()
    wanted = arguments.parts or names
    if unknown := set(wanted) - set(names):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    started = time.monotonic()
    when = datetime.datetime.now(datetime.UTC)
    head = [*machine.description(), f"`{' '.join(['python -m bench', *sys.argv[1:]])}`, {when:%Y-%m-%d %H:%M} UTC"]
    sections = [Section("Machine and run", notes=[*head, f"load before: {machine.load()}"])]
    for name in wanted:
        if name in OTHER_PARTS:
            say(f"--- {name}")
            sections += OTHER_PARTS[name](None)
    if chain_parts := [name for name in wanted if name in CHAIN_PARTS]:
        say("--- the chain")
        with standard_chain.prepared_chain(arguments) as root:
            for name in chain_parts:
                say(f"--- {name}")
                sections += CHAIN_PARTS[name](root)
    text = report.markdown(sections)
    met, missed = text.count("| met |"), text.count("| **missed** |")
    sections[0].notes.append(f"{time.monotonic() - started:.0f} s in all; {met + missed} targets, {missed} missed")
    text = report.markdown(sections)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
