"""The command line: one file per command group, click only, no numerical work of its own.

Modules here import click and light standard modules at their top; all else inside the commands, so that `--help` is
quick and a query never loads numba.
"""

from utxo_index.cli.main import main

__all__ = ["main"]
