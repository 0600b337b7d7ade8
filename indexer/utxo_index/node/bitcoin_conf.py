"""bitcoin.conf and settings.json, read by Bitcoin Core's own rules.

Only what Core does with these files is done here; options we do not ask for are kept but never interpreted.
Source: Bitcoin Core `doc/bitcoin-conf.md`, `src/common/config.cpp` (`GetConfigOptions`, `ReadConfigFiles`),
`src/common/args.cpp` (`InterpretKey`, `InterpretValue`, `GetChainArg`), `src/common/settings.cpp` (`GetSetting`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from utxo_index.errors import UsageError
from utxo_index.node.access import is_file, read_text

CHAIN_FLAGS = {"regtest": "regtest", "signet": "signet", "testnet": "test", "testnet4": "testnet4"}
"""Core's boolean chain options and the chain each of them selects."""

CHAIN_NAMES = ("main", "test", "testnet4", "signet", "regtest")
"""Core's names of the networks: values of `chain=` and names of sections."""


@dataclass(frozen=True)
class Setting:
    """One value and where it stands. `value`: the text after `=`; False for `noX=1`, True for `noX=0`."""

    value: str | bool
    origin: str

    @property
    def is_true(self) -> bool:
        """The value as Core reads a boolean: "" is true, else its leading integer is not 0 ("true" is false)."""
        if isinstance(self.value, bool):
            return self.value
        if self.value == "":
            return True
        digits = re.match(r"\s*[+-]?(\d+)", self.value)
        return digits is not None and int(digits.group(1)) != 0


@dataclass
class BitcoinConf:
    """All settings of one node, without its command line.

    `sections[section][name]`: settings of bitcoin.conf and its includes in file order; section "" is the general one.
    `dynamic[name]`: the settings of settings.json.
    """

    sections: dict[str, dict[str, list[Setting]]] = field(default_factory=dict)
    dynamic: dict[str, list[Setting]] = field(default_factory=dict)

    def get(self, name: str, chain_name: str, *, network_only: bool = False) -> Setting | None:
        """The setting in force for a chain; None when unset or switched off by `noX=1`.

        `network_only`: one of Core's options whose general value is for main alone (`rpcport`).

        settings.json beats the chain's section, which beats the general one. Inside a file the *first* value counts,
        but a negation wipes what stands before it. In settings.json, as on Core's command line, the last value counts.
        """
        found: Setting | None = None
        if self.dynamic.get(name):
            found = self.dynamic[name][-1]
        for section in (chain_name, "") if not network_only or chain_name == "main" else (chain_name,):
            values = self.sections.get(section, {}).get(name)
            if found is None and values:
                alive = _after_last_negation(values)
                found = alive[0] if alive else values[-1]
        return None if found is None or found.value is False else found

    def chain(self) -> Setting | None:
        """The chain this node is on, as one of Core's names in `value`; None when nothing says so (then it is main).

        Chain options count in the general section only, and of each flag the *last* value counts.

        Raises
        ------
        UsageError : two options name chains, or `chain=` names none.
        """
        general = self.sections.get("", {})
        named: list[Setting] = []
        for flag, chain_name in CHAIN_FLAGS.items():
            alive = _after_last_negation(general.get(flag, []))
            if alive and alive[-1].is_true:
                named.append(Setting(chain_name, alive[-1].origin))
        by_name = self.get("chain", "")
        if by_name is not None:
            named.append(by_name)
        if len(named) > 1:
            where = ", ".join(s.origin for s in named)
            raise UsageError(
                f"more than one of chain, regtest, signet, testnet and testnet4 is set: {where}",
                remedy="Say which one with --chain",
            )
        if named and named[0].value not in CHAIN_NAMES:
            raise UsageError(
                f"{named[0].origin}: unknown chain {str(named[0].value)!r}",
                remedy="Say which one with --chain",
            )
        return named[0] if named else None

    def read(self, path: Path) -> None:
        """Add the settings of one file behind those already there.

        Raises
        ------
        UsageError : a line that Core refuses too. NodeAccessError : the file may not be read.
        """
        section = ""
        for number, raw_line in enumerate(read_text(path).split("\n"), start=1):
            line = raw_line.partition("#")[0].strip(" \t\r\n")
            if not line:
                continue
            if line.startswith("[") and line.endswith("]"):
                section = line[1:-1]
                continue
            key, equals, text = line.partition("=")
            if line.startswith("-") or not equals:
                raise UsageError(  # the line itself is not shown: it may hold a password
                    f"line {number} is not option=value",
                    path=path,
                    remedy="Bitcoin Core refuses it too; mend it, or give --blocksdir",
                )
            key_section, name = _split(section, key.strip(" \t\r\n"))
            setting = Setting(text.strip(" \t\r\n"), f"{path} line {number}")
            if name.startswith("no"):
                name, setting = name[2:], Setting(not setting.is_true, setting.origin)
            self.sections.setdefault(key_section, {}).setdefault(name, []).append(setting)

    def includes(self, section: str) -> list[str]:
        """Values of `includeconf` of one section, in file order, without those that a negation wiped."""
        values = _after_last_negation(self.sections.get(section, {}).get("includeconf", []))
        return [str(s.value) for s in values]

    def read_settings_json(self, path: Path) -> None:
        """Take in the node's settings.json; a missing file is fine.

        Raises
        ------
        UsageError : not a JSON object. NodeAccessError : the file may not be read.
        """
        if not is_file(path):
            return
        try:
            content = json.loads(read_text(path))
        except ValueError as error:
            raise UsageError(f"not valid JSON ({error})", path=path, remedy="Mend it, or give --blocksdir") from error
        if not isinstance(content, dict):
            raise UsageError("not a JSON object", path=path, remedy="Mend it, or give --blocksdir")
        for name, value in content.items():
            values = value if isinstance(value, list) else [value]
            self.dynamic[name] = [Setting(v if isinstance(v, (bool, str)) else str(v), str(path)) for v in values]


def _split(section: str, key: str) -> tuple[str, str]:
    """(section, name) of a key that stands under a section header: Core joins them and cuts at the first dot."""
    head, dot, tail = (f"{section}.{key}" if section else key).partition(".")
    return (head, tail) if dot else ("", head)


def _after_last_negation(values: list[Setting]) -> list[Setting]:
    """What stands behind the last `noX=1`."""
    last = max((i for i, s in enumerate(values) if s.value is False), default=-1)
    return values[last + 1 :]


def read_bitcoin_conf(conf_path: Path, include_folder: Path, chain_name: str | None = None) -> BitcoinConf:
    """bitcoin.conf with the files it includes.

    `chain_name`: the chain when the command line says it, else the file's own counts.
    `include_folder`: what relative `includeconf` paths are relative to: the data folder that was in force *before* this
    file was read. Included files cannot include others; those of the chain's section are read before the general ones.

    Raises
    ------
    UsageError : a line or an include that Core refuses too. NodeAccessError : a file may not be read.
    """
    conf = BitcoinConf()
    conf.read(conf_path)
    if chain_name is None:
        chain = conf.chain()
        chain_name = "main" if chain is None else str(chain.value)
    for name in conf.includes(chain_name) + conf.includes(""):
        path = include_folder / name
        if not is_file(path):
            raise UsageError(f"includeconf={name}: there is no file {path}", path=conf_path)
        conf.read(path)
    return conf
