"""Read a folder's block and undo files through one reused buffer a thread, and nothing else: prints a JSON object.

python -m bench.measured_read BLOCKS_FOLDER [--threads 1] [--xor] [--direct]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import threading
import time
from pathlib import Path

import numpy as np

from bench.machine import block_files
from utxo_index import numba_cache
from utxo_index.core_files.anonymous_maps import aligned_bytes

BUFFER_BYTES = 4 << 20  # as a build's spans


def read_files(blocks: Path, threads: int, *, xor: bool = False, direct: bool = False) -> int:
    """Read every file once, the threads taking file after file; returns the bytes.

    xor : undo the obfuscation. direct : past the page cache.
    """
    files = block_files(blocks)[::-1]
    key = np.uint64(int.from_bytes((blocks / "xor.dat").read_bytes(), "little"))
    if xor:
        from utxo_index.core_files.span_fns import unmask
    n_bytes = [0] * threads
    failed: list[BaseException] = []

    def work(i: int) -> None:
        buf = aligned_bytes(BUFFER_BYTES + 64)  # as a build's spans
        view = buf.data[:BUFFER_BYTES]
        start = np.zeros(1, np.int64)
        try:
            while files:
                flags = os.O_RDONLY | (os.O_DIRECT if direct else 0)
                with io.FileIO(os.open(files.pop(), flags), "rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
                    while n := file.readinto(view):
                        n_bytes[i] += n
                        if xor:
                            unmask(buf, start, np.array([n]), 1, key)
        except IndexError:
            pass  # another thread took the last file
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed:
        raise failed[0]
    return sum(n_bytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("blocks", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--xor", action="store_true")
    parser.add_argument("--direct", action="store_true")
    arguments = parser.parse_args()
    if arguments.xor:
        numba_cache.prepare()
        import utxo_index.core_files.span_fns  # noqa: F401
    wall, cpu = time.perf_counter(), time.process_time()
    n_bytes = read_files(arguments.blocks, arguments.threads, xor=arguments.xor, direct=arguments.direct)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"bytes": n_bytes, "wall_s": wall, "cpu_s": cpu}))


if __name__ == "__main__":
    main()
