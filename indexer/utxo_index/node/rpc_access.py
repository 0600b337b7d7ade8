"""Where a node's RPC listens and with which credentials: the cookie first, then bitcoin.conf.

A password comes from a file only, never from the command line or the environment; it is read when a connection is made
and nothing shows it.
Source: Bitcoin Core `src/rpc/request.cpp` (`GetAuthCookie`), `src/bitcoin-cli.cpp`, `src/httpserver.cpp`.
"""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import NamedTuple

from utxo_index.chains import Chain
from utxo_index.errors import NodeAuthError, UsageError
from utxo_index.node.access import access_error, is_file, is_folder
from utxo_index.node.bitcoin_conf import BitcoinConf, Setting
from utxo_index.node.folder import default_datadir, read_conf

LOOPBACK = "127.0.0.1"
RPC_PORTS = {"main": 8332, "test": 18332, "testnet4": 48332, "signet": 38332, "regtest": 18443}
"""Core's ports of RPC and REST by chain (`src/chainparamsbase.cpp`)."""

_MOST_COOKIE_BYTES = 4096


class Credential(NamedTuple):
    """`origin`: what it was read from; `header`: the value of the Authorization header."""

    origin: str
    header: bytes

    def __repr__(self) -> str:
        return f"Credential(origin={self.origin!r})"


@dataclass(frozen=True)
class RpcAccess:
    """Where a node of `chain` listens, and where its credentials are.

    `origin`: one line for people, without secrets. `cookie_path`: None where the cookie is switched off.
    """

    chain: Chain
    host: str
    port: int
    origin: str
    cookie_path: Path | None
    conf_origin: str | None = None
    _conf_header: bytes | None = field(default=None, repr=False)
    _has_rpcauth: bool = field(default=False, repr=False)

    @property
    def address(self) -> str:
        """As `127.0.0.1:8332`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def has_credentials(self) -> bool:
        """Whether a cookie is there or bitcoin.conf has a password: where neither is, no node runs from this folder.

        Raises NodeAccessError where the cookie's folder is closed to this user.
        """
        return self._conf_header is not None or (self.cookie_path is not None and is_file(self.cookie_path))

    def credentials(self) -> list[Credential]:
        """What to try, in order, as the files are now: the cookie is another at every start of the node.

        Raises
        ------
        NodeAuthError : there is none. NodeAccessError : only a cookie that may not be read.
        """
        found = []
        closed = None
        if self.cookie_path is not None:
            try:
                with open(self.cookie_path, "rb") as file:
                    cookie = file.read(_MOST_COOKIE_BYTES).strip()
                if b":" in cookie:
                    found.append(Credential(f"the cookie {self.cookie_path}", _basic(cookie)))
            except PermissionError:
                closed = access_error(self.cookie_path)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                pass
        if self._conf_header is not None:
            found.append(Credential(f"the password of {self.conf_origin}", self._conf_header))
        if not found and closed is not None:
            raise closed
        if not found:
            looked = [f"no cookie {self.cookie_path}"] if self.cookie_path is not None else []
            looked.append("no rpcpassword in bitcoin.conf")
            if self._has_rpcauth:
                looked.append("rpcauth there holds only the password's hash")
            raise NodeAuthError(
                f"nothing to log in to the node at {self.address} with: {', '.join(looked)}",
                remedy="The node writes its cookie when it starts; --rpc-cookiefile says where it is",
            )
        return found


def find_rpc_access(
    *,
    chain: Chain,
    datadir: Path | None = None,
    conf: Path | None = None,
    cookie_file: Path | None = None,
    connect: str | None = None,
) -> RpcAccess:
    """Where RPC should be, from what the command line says and bitcoin.conf. Connects to nothing.

    Parameters
    ----------
    datadir : Core's data folder; None means the one bitcoin.conf names, else the default place.
    conf : a bitcoin.conf. cookie_file : the node's cookie. connect : HOST or HOST:PORT.

    Raises
    ------
    UsageError : a line of bitcoin.conf or an address that cannot be meant, or `conf` is not there. NodeAccessError :
        bitcoin.conf may not be read.
    """
    folder = default_datadir() if datadir is None else datadir
    settings = read_conf(conf, folder, chain.name)
    if datadir is None and (moved := settings.get("datadir", chain.name)) is not None:
        folder = Path(str(moved.value))
    chain_folder = folder / chain.folder
    if not is_folder(chain_folder) and is_folder(folder / "blocks"):
        chain_folder = folder  # the network's own folder was given
    settings.read_settings_json(chain_folder / "settings.json")

    host, port, origin = _address(settings, chain, connect)
    cookie_path: Path | None = chain_folder / ".cookie"
    said = settings.get("rpccookiefile", chain.name)
    if cookie_file is not None:
        if not is_file(cookie_file):
            raise UsageError("there is no such file", path=cookie_file, remedy="--rpc-cookiefile is the node's cookie")
        cookie_path = cookie_file
    elif said is not None and said.value not in ("", True):
        cookie_path = chain_folder / str(said.value)
    elif _is_negated(settings, "rpccookiefile", chain.name):
        cookie_path = None
    password = settings.get("rpcpassword", chain.name)
    header = None
    if password is not None and isinstance(password.value, str) and password.value:
        user = settings.get("rpcuser", chain.name)
        name = user.value if user is not None and isinstance(user.value, str) else ""
        header = _basic(f"{name}:{password.value}".encode("utf-8", "surrogateescape"))
    return RpcAccess(
        chain,
        host,
        port,
        origin,
        cookie_path,
        None if password is None else password.origin,
        header,
        settings.get("rpcauth", chain.name) is not None,
    )


def _basic(user_and_password: bytes) -> bytes:
    return b"Basic " + base64.b64encode(user_and_password)


def _address(settings: BitcoinConf, chain: Chain, connect: str | None) -> tuple[str, int, str]:
    """(host, port, origin): the command line, else `rpcconnect` and `rpcport`, else loopback and Core's port."""
    port = RPC_PORTS[chain.name]
    origin = "default"
    host = LOOPBACK
    if connect is not None:
        host, given = _split_address(connect, "--rpc-connect")
        return host, given or _conf_port(settings, chain) or port, "--rpc-connect"
    said = settings.get("rpcconnect", chain.name)
    if said is not None and isinstance(said.value, str) and said.value:
        host, given = _split_address(said.value, f"{said.origin}: rpcconnect")
        port, origin = given or port, said.origin
    return host, _conf_port(settings, chain) or port, origin


def _conf_port(settings: BitcoinConf, chain: Chain) -> int | None:
    said: Setting | None = settings.get("rpcport", chain.name, network_only=True)
    if said is None:
        return None
    text = str(said.value)
    if not re.fullmatch(r"\d{1,5}", text) or not 0 < int(text) < 1 << 16:
        raise UsageError(f"{said.origin}: rpcport={text}: no port number")
    return int(text)


def _split_address(text: str, origin: str) -> tuple[str, int | None]:
    """HOST, HOST:PORT, V6, [V6] or [V6]:PORT. Raises UsageError."""
    match = re.fullmatch(r"(?:\[([^\s/@\[\]]+)\]|([^\s:/@\[\]]+))(?::(\d{1,5}))?", text)
    host, port = (match[1] or match[2], int(match[3] or 0)) if match else (text, 0)
    if ":" in host:
        with suppress(ValueError):
            return str(IPv6Address(host)), port or None
    elif match and (port if match[3] else 1) in range(1, 1 << 16):
        return host, port or None
    shown = "" if "@" in text else f" {text!r}"  # an address with a password in it must not be shown
    raise UsageError(f"{origin}{shown}: HOST or HOST:PORT is wanted, nothing else")


def _is_negated(settings: BitcoinConf, name: str, chain_name: str) -> bool:
    values = settings.sections.get(chain_name, {}).get(name) or settings.sections.get("", {}).get(name) or []
    return bool(values) and values[-1].value is False
