"""Options that can be set once for all commands: default < config file < environment < command line.

The file is TOML, one key an option (`threads = 4`, `chain = "signet"`); it is never written by us. The variables are
UTXO_INDEX_ and the option's name (UTXO_INDEX_THREADS). What is to be done once (--rebuild, --at, -o) is no setting.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import click

from utxo_index.cli.index_option import INDEX_META
from utxo_index.errors import UsageError

CONFIG_VARIABLE = "UTXO_INDEX_CONFIG"
SETTINGS = (
    "index",
    "chain",
    "datadir",
    "blocksdir",
    "conf",
    "magic",
    "threads",
    "prices",
    "backend",
    "progress",
    "log_format",
    "rpc_cookiefile",
    "rpc_connect",
    "on_commit",
)
INDEX_SETTING = "index"


class Resolved(NamedTuple):
    """A setting in force. `origin`: the variable or the file; None where nobody set it."""

    name: str
    value: str | None
    origin: str | None


def variable(setting: str) -> str:
    """The environment variable of a setting."""
    return f"UTXO_INDEX_{setting.upper()}"


def config_path() -> Path:
    """Where the config file is looked for: UTXO_INDEX_CONFIG, else this user's config folder."""
    said = os.environ.get(CONFIG_VARIABLE)
    if said:
        return Path(said)
    from platformdirs import user_config_path

    return user_config_path("utxo-index", appauthor=False) / "config.toml"


def read_config() -> dict[str, Any]:
    """What the config file sets; nothing where there is none.

    Raises
    ------
    UsageError : it cannot be read, is not TOML, or has a key that is no setting.
    """
    path = config_path()
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.environ.get(CONFIG_VARIABLE):
            raise UsageError("there is no such file", path=path, remedy=f"{CONFIG_VARIABLE} names it") from error
        return {}
    except OSError as error:
        raise UsageError(f"the config file cannot be read: {error.strerror}", path=path) from error
    import tomllib

    try:
        found = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"the config file is not TOML: {error}", path=path) from error
    settings: dict[str, Any] = {}
    for key, value in found.items():
        name = key.replace("-", "_")
        if name not in SETTINGS:
            close = get_close_matches(name, SETTINGS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; settings are {', '.join(SETTINGS)}"
            raise UsageError(f"{key!r} is no setting{hint}", path=path)
        if not isinstance(value, (str, int, float)):
            raise UsageError(f"{key}: a text or a number is wanted", path=path)
        settings[name] = value
    return settings


def apply_settings(command: click.Command, context: click.Context) -> None:
    """Let a command's options take their values from the environment and the config file. Raises UsageError.

    `index` has rules of its own, in which a chain named on the command line outranks it (`index_option.py`): there the
    file's value stands in for the variable.
    """
    config = read_config()
    if INDEX_SETTING in config:
        context.meta[INDEX_META] = str(config[INDEX_SETTING])
    defaults: dict[str, Any] = {}
    for option in command.params:
        if isinstance(option, click.Option) and option.name in SETTINGS and option.name != INDEX_SETTING:
            if option.envvar is None:
                option.envvar = variable(option.name)
            if option.name in config:
                defaults[option.name] = config[option.name]
    if context.default_map is None:
        context.default_map = {}
    if command.name is not None:
        context.default_map = {**context.default_map, command.name: defaults}


def resolved_settings() -> list[Resolved]:
    """Every setting, in order. Raises UsageError."""
    config = read_config()
    resolved = []
    for name in SETTINGS:
        from_environment = os.environ.get(variable(name))
        if from_environment:
            resolved.append(Resolved(name, from_environment, variable(name)))
        elif name in config:
            resolved.append(Resolved(name, str(config[name]), str(config_path())))
        else:
            resolved.append(Resolved(name, None, None))
    return resolved
