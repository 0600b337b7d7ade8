"""`utxo-index warmup`: compile everything once."""

from __future__ import annotations

import click


@click.command(short_help="Compile the kernels now, not at the first build.")
def warmup() -> None:
    """Compile the kernels now, not at the first build.

    Takes some seconds the first time and after an upgrade; where they are compiled already it is done at once.
    """
    import importlib
    import time

    from utxo_index import numba_cache

    started = time.monotonic()
    folder = numba_cache.prepare()
    modules = numba_cache.kernel_modules()
    for module in modules:
        importlib.import_module(module)
    click.echo(f"{len(modules)} kernel modules ready in {time.monotonic() - started:.1f} s, kept in {folder}")
