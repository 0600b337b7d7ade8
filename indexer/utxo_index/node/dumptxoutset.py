"""The command that makes a snapshot, spelled out for one node.

Source: Bitcoin Core `src/rpc/blockchain.cpp` (`dumptxoutset`); a relative path is below the network's folder.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from utxo_index.chains import CHAINS, Chain
from utxo_index.node.folder import default_datadir

SNAPSHOT_NAME = "utxo.dat"


def snapshot_advice(chain: Chain, datadir: Path | None, *, rollback_height: int | None = None) -> str:
    """Two commands, each to be pasted as it is: the node writes a snapshot, and a build takes it.

    `datadir`: Core's data folder, None where it is not known. `rollback_height`: of an earlier block than the tip.
    """
    folder = default_datadir() if datadir is None else datadir
    command = ["bitcoin-cli"]
    if datadir is not None and datadir != default_datadir():
        command.append(f"-datadir={datadir}")
    if chain != CHAINS["main"]:
        command.append(f"-chain={chain.name}")
    command.append("-rpcclienttimeout=0")
    if rollback_height is None:
        command += ["dumptxoutset", SNAPSHOT_NAME, "latest"]
    else:
        command += ["-named", "dumptxoutset", SNAPSHOT_NAME, f"rollback={rollback_height}"]
    build = ["utxo-index", "build", "--snapshot", str(folder / chain.folder / SNAPSHOT_NAME)]
    if datadir is not None and datadir != default_datadir():
        build += ["--datadir", str(datadir)]
    if chain != CHAINS["main"]:
        build += ["--chain", chain.name]
    return f"Let the node write a snapshot: {shlex.join(command)}; then: {shlex.join(build)}"
