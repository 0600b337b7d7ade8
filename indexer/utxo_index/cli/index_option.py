"""Which index a command means, and on which chain: options shared by all commands."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from utxo_index.errors import UsageError
from utxo_index.node.bitcoin_conf import CHAIN_NAMES

if TYPE_CHECKING:
    from utxo_index.chains import Chain

INDEX_VARIABLE = "UTXO_INDEX_INDEX"
INDEX_META = "utxo_index.index"
"""Under this name the command's context keeps what the config file says."""

index_option = click.option(
    "--index",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"The index folder. Default: {INDEX_VARIABLE}, else this user's folder of the chain.",
)


def chain_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--chain` and its short forms; it gets one argument `chain`, a name or None."""

    @click.option("--chain", type=click.Choice(CHAIN_NAMES), help="The network, by Bitcoin Core's name.")
    @click.option("--testnet4", is_flag=True, help="Short for --chain testnet4.")
    @click.option("--signet", is_flag=True, help="Short for --chain signet.")
    @click.option("--regtest", is_flag=True, help="Short for --chain regtest.")
    @functools.wraps(command)
    def with_chain(*args: Any, chain: str | None, testnet4: bool, signet: bool, regtest: bool, **options: Any) -> Any:
        flags = {"testnet4": testnet4, "signet": signet, "regtest": regtest}
        named = {name for name, is_set in flags.items() if is_set} | ({chain} if chain else set())
        if len(named) > 1:
            raise UsageError(f"more than one chain is named: {', '.join(sorted(named))}")
        return command(*args, chain=named.pop() if named else None, **options)

    return with_chain


def default_folder(chain: Chain) -> Path:
    """This user's index folder of a chain; every custom signet has one of its own."""
    from utxo_index.chains import CHAINS

    is_custom = CHAINS[chain.name].magic != chain.magic
    return indexes_folder() / (f"{chain.name}-{chain.magic.hex()}" if is_custom else chain.name)


def indexes_folder() -> Path:
    """The folder of all default indexes."""
    from platformdirs import user_data_path

    return user_data_path("utxo-index", appauthor=False)


def folder_from_user(index: Path | None, chain: str | None) -> Path | None:
    """The index folder where the user said one: `--index`, else (when no chain is named) UTXO_INDEX_INDEX, else the
    config file's."""
    if index is None and chain is None:
        context = click.get_current_context(silent=True)
        said = os.environ.get(INDEX_VARIABLE) or (context.meta.get(INDEX_META) if context else None)
        return Path(said) if said else None
    return index


def resolve_index(index: Path | None, chain: str | None) -> Path:
    """The index that a query means.

    `--index` wins; then the named chain's default folder; then UTXO_INDEX_INDEX; then the one default index there is,
    main if there are several. Whether it holds an index is for the reader to say.
    """
    said = folder_from_user(index, chain)
    if said is not None:
        return said
    if chain is not None:
        return indexes_folder() / chain
    base = indexes_folder()
    # What a `--rebuild` has in the works beside an index (main.rebuild) is none.
    present = [path.parent for path in sorted(base.glob("*/manifest.json")) if "." not in path.parent.name]
    return present[0] if len(present) == 1 else base / "main"
