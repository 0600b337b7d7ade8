"""Questions to a node over RPC: python-bitcoinlib writes and reads the JSON, the limits and the credentials are ours.

Answers are bounded in time and bytes, and what is wrong with them is said without showing them: what answers may be
anything. A connection that was closed while it waited is made anew once.
Source: Bitcoin Core `src/rpc/blockchain.cpp`, `src/rpc/protocol.h` (numbers of errors), `src/httprpc.cpp`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal
from http.client import HTTPException, IncompleteRead
from types import TracebackType
from typing import Any, NamedTuple

from utxo_index.chains import COIN_SATS, MAX_MONEY_SATS
from utxo_index.errors import (
    NodeAccessError,
    NodeAnswerError,
    NodeAuthError,
    NodeRpcError,
    NodeUnreachableError,
    NodeWarmingUpError,
)
from utxo_index.node.bounded_http import AnswerTooLongError, BoundedConnection
from utxo_index.node.rpc_access import Credential, RpcAccess

TIMEOUT_S = 30.0
SET_TIMEOUT_S = 3600.0
"""For what makes the node read its whole set of coins: minutes, on a slow disk half an hour."""

MISC_ERROR, NOT_FOUND, INVALID_PARAMETER, WARMING_UP = -1, -5, -8, -28
METHOD_NOT_FOUND, INTERNAL_ERROR = -32601, -32603
_MOST_BYTES = 32 << 20
_POLL_S = 5.0
_MOST_SHOWN = 200


class BlockId(NamedTuple):
    """`block_hash`: 32 bytes, internal order."""

    height: int
    block_hash: bytes


class BlockchainInfo(NamedTuple):
    """`best_block_hash`: internal order. `prune_height`: the lowest block kept, None where all are."""

    chain: str
    height: int
    header_height: int
    best_block_hash: bytes
    prune_height: int | None
    in_initial_download: bool

    @property
    def is_pruned(self) -> bool:
        return self.prune_height is not None


class TxoutSetInfo(NamedTuple):
    """The node's set after one block. `hash_hex`: of the kind that was asked for, display order; None for "none"."""

    height: int
    block_hash: bytes
    n_coins: int
    amount_sats: int
    hash_hex: str | None


def connect_node(access: RpcAccess, *, timeout_s: float = TIMEOUT_S) -> NodeRpc:
    """Connect, and see that the node is on the chain that is meant.

    Raises
    ------
    NodeUnreachableError : nothing answers. NodeWarmingUpError : not yet. NodeAuthError : it refuses us.
    NodeAnswerError : it is no node. NodeAccessError : it is on another chain.
    """
    node = NodeRpc(access, timeout_s=timeout_s)
    try:
        node.check_chain()
    except BaseException:
        node.close()
        raise
    return node


class NodeRpc:
    """A node that answers; every method raises the classes of `connect_node`, and NodeRpcError.

    One request at a time: not for use by several threads.
    """

    def __init__(self, access: RpcAccess, *, timeout_s: float = TIMEOUT_S) -> None:
        try:
            from bitcoin.rpc import RawProxy  # loads libssl: only where RPC is used
        except (ImportError, OSError, AttributeError) as error:
            raise NodeAccessError(f"python-bitcoinlib, which talks to the node, cannot be loaded ({error})") from error

        self.access = access
        self.address = access.address
        self._timeout_s = timeout_s
        self._offered: Credential | None = None
        self._refused: list[Credential] = []
        self._connection = BoundedConnection(access.host, access.port, self._authorization)
        self._proxy = RawProxy(service_url=f"http://{access.address}", connection=self._connection)

    def __enter__(self) -> NodeRpc:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        self._connection.close()

    # ------------------------------------------------------------ questions

    def check_chain(self) -> BlockchainInfo:
        """Raises NodeAccessError where the node is on another chain."""
        info = self.blockchain_info()
        if info.chain != self.access.chain.name:
            raise NodeAccessError(
                f"the node at {self.address} is on another chain",
                expected=self.access.chain.name,
                found=info.chain,
                remedy="--chain, --datadir or --rpc-connect say which node is meant",
            )
        return info

    def blockchain_info(self) -> BlockchainInfo:
        """`getblockchaininfo`."""
        answer = self.call("getblockchaininfo")
        with self._shape("getblockchaininfo"):
            is_pruned = bool(answer["pruned"])
            return BlockchainInfo(
                _printable(answer["chain"], 20),
                _count(answer["blocks"]),
                _count(answer["headers"]),
                _hash(answer["bestblockhash"]),
                _count(answer.get("pruneheight", 0)) if is_pruned else None,
                bool(answer["initialblockdownload"]),
            )

    def best_block_hash(self) -> bytes:
        """Hash of the tip the node has chosen, internal order."""
        answer = self.call("getbestblockhash")
        with self._shape("getbestblockhash"):
            return _hash(answer)

    def block_hash(self, height: int) -> bytes:
        """Hash of the block at `height` of the node's best chain, internal order. NodeRpcError beyond its tip."""
        answer = self.call("getblockhash", height)
        with self._shape("getblockhash"):
            return _hash(answer)

    def block_height(self, block_hash: bytes) -> int | None:
        """Height of a block on the node's best chain; None where it does not know it, or has it on no chain or another
        one."""
        try:
            answer = self.call("getblockheader", block_hash[::-1].hex())
        except NodeRpcError as error:
            if error.code == NOT_FOUND:
                return None
            raise
        with self._shape("getblockheader"):
            return _count(answer["height"]) if int(answer["confirmations"]) >= 0 else None

    def wait_for_new_block(self, known_tip: bytes, timeout_s: float) -> BlockId:
        """The node's tip as soon as it is another than `known_tip` (internal order): at once where it is already; the
        tip as it is when `timeout_s` have passed.

        Nodes before 29 do not take the known tip, and then a block between two questions would be waited for; of them
        this asks anew every few seconds.
        """
        end_time = time.monotonic() + timeout_s
        try:
            return self._wait(timeout_s, known_tip[::-1].hex())
        except NodeRpcError as error:
            if error.code not in (MISC_ERROR, INVALID_PARAMETER, METHOD_NOT_FOUND):
                raise
        while True:
            info = self.blockchain_info()
            left = end_time - time.monotonic()
            if info.best_block_hash != known_tip or left <= 0:
                return BlockId(info.height, info.best_block_hash)
            time.sleep(min(left, _POLL_S))

    def txout_set_info(self, hash_type: str = "none", *, block_hash: bytes | None = None) -> TxoutSetInfo:
        """`gettxoutsetinfo`, of the node's tip or of one of its blocks; `hash_type`: none, muhash, hash_serialized_3.

        The node reads its whole set, after it wrote all it has in memory: minutes. With a coinstatsindex it does not
        for "none" and "muhash", and only with it can it answer for another block than its tip (else NodeRpcError).
        """
        arguments: list[Any] = [hash_type] if block_hash is None else [hash_type, block_hash[::-1].hex()]
        answer = self.call("gettxoutsetinfo", *arguments, timeout_s=SET_TIMEOUT_S)
        with self._shape("gettxoutsetinfo"):
            return TxoutSetInfo(
                _count(answer["height"]),
                _hash(answer["bestblock"]),
                _count(answer["txouts"]),
                _sats(answer["total_amount"]),
                None if hash_type == "none" else _hash(answer[hash_type])[::-1].hex(),
            )

    def txout_set_hash_at(self, block_hash: bytes) -> str | None:
        """hash_serialized_3 (display order) of the set after a block (internal order): None unless it is the tip, for
        of other blocks the node knows no such hash."""
        if self.best_block_hash() != block_hash:
            return None
        info = self.txout_set_info("hash_serialized_3")
        return info.hash_hex if info.block_hash == block_hash else None

    # ------------------------------------------------------------ the wire

    def call(self, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        """The result of any method; numbers with a point are Decimal."""
        return self._ask(method, lambda: getattr(self._proxy, method)(*arguments), timeout_s)

    def batch(self, calls: Sequence[tuple[Any, ...]], *, timeout_s: float | None = None) -> list[Any]:
        """Results of calls (method, argument, …) in one request, in order."""
        requests = [
            {"version": "1.1", "method": method, "params": arguments, "id": i}
            for i, (method, *arguments) in enumerate(calls)
        ]
        answers = self._ask("batch", lambda: self._proxy._batch(requests), timeout_s)
        if isinstance(answers, dict) and isinstance(answers.get("error"), dict):
            self._raise_rpc_error("batch", answers["error"])
        with self._shape("batch"):
            by_id = {int(answer["id"]): answer for answer in answers}
            ordered = [by_id[i] for i in range(len(requests))]
        for (method, *_), answer in zip(calls, ordered, strict=True):
            if answer.get("error") is not None:
                self._raise_rpc_error(method, answer["error"])
        with self._shape("batch"):
            return [answer["result"] for answer in ordered]

    def _wait(self, timeout_s: float, *known_tip: str) -> BlockId:
        answer = self.call(
            "waitfornewblock", max(1, int(1000 * timeout_s)), *known_tip, timeout_s=timeout_s + self._timeout_s
        )
        with self._shape("waitfornewblock"):
            return BlockId(_count(answer["height"]), _hash(answer["hash"]))

    def _ask(self, method: str, ask: Any, timeout_s: float | None) -> Any:
        """Ask with what there is to log in with, one credential after the other; once more where the connection had
        been closed."""
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        while True:
            waited = self._connection.sock is not None
            self._connection.limit(timeout_s, _MOST_BYTES)
            try:
                return self._ask_once(method, ask)
            except _LoginRefused:
                self._connection.close()
            except NodeUnreachableError as error:
                self._connection.close()
                closed = isinstance(error.__cause__, (ConnectionError, IncompleteRead))
                if not (waited and closed):
                    raise
            except BaseException:
                self._connection.close()
                raise

    def _ask_once(self, method: str, ask: Any) -> Any:
        from bitcoin.rpc import JSONRPCError

        where = f"the node at {self.address}"
        try:
            return ask()
        except NodeAccessError:
            raise
        except JSONRPCError as error:
            status = self._connection.status
            if status == 401:
                self._refuse_credential()
            if status == 403:
                raise NodeAuthError(
                    f"{where} refuses this address (403)", remedy="Its rpcallowip says who may ask, rpcwhitelist what"
                ) from None
            if status == 503:
                raise NodeUnreachableError(f"{where} is too busy (503)", remedy="Try again") from None
            if error.error["code"] in (-342, -343, -344, -345):  # python-bitcoinlib's own, for what is not JSON-RPC
                raise self._no_node(f"its answer to {method} is not JSON-RPC (HTTP status {status})") from None
            self._raise_rpc_error(method, error.error)
        except AnswerTooLongError:
            raise self._no_node(f"its answer to {method} has more than {_MOST_BYTES >> 20} MiB") from None
        except TimeoutError as error:
            raise NodeUnreachableError(f"{where} did not answer {method} in time", remedy="Try again") from error
        except ConnectionRefusedError as error:
            raise NodeUnreachableError(
                f"no node answers at {self.address} ({self.access.origin}): connection refused",
                remedy="Start it, or say where it is: --rpc-connect HOST:PORT",
            ) from error
        except (ConnectionError, IncompleteRead) as error:
            raise NodeUnreachableError(
                f"{where} closed the connection ({type(error).__name__}) in the middle of {method}", remedy="Try again"
            ) from error
        except OSError as error:
            raise NodeUnreachableError(
                f"no node answers at {self.address} ({self.access.origin}): {error.strerror or type(error).__name__}"
            ) from error
        except (HTTPException, ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise self._no_node(f"its answer to {method} is not JSON-RPC") from None

    def _authorization(self) -> bytes:
        """The Authorization header of a new connection."""
        offered = [c for c in self.access.credentials() if c not in self._refused]
        if not offered:
            refused = " and ".join(dict.fromkeys(c.origin for c in self._refused))
            self._refused = []
            raise NodeAuthError(
                f"the node at {self.address} refuses {refused} (401)",
                remedy="Another node may be listening there, or it was started with other settings",
            )
        self._offered = offered[0]
        return self._offered.header

    def _refuse_credential(self) -> None:
        if self._offered is not None:
            self._refused.append(self._offered)
        raise _LoginRefused

    def _raise_rpc_error(self, method: str, error: Any) -> None:
        with self._shape(method):
            code, message = int(error["code"]), _printable(error["message"], _MOST_SHOWN)
        if code == WARMING_UP:
            raise NodeWarmingUpError(
                f"the node at {self.address} is starting: {message}", remedy="Try again in a while"
            ) from None
        raise NodeRpcError(f"the node at {self.address} answered {method} with error {code}: {message}", code=code)

    def _no_node(self, what: str) -> NodeAnswerError:
        return NodeAnswerError(
            f"{self.address} does not answer as a Bitcoin Core node: {what}",
            remedy="Something else may listen there: --rpc-connect HOST:PORT says where the node is",
        )

    def _shape(self, method: str) -> _Shape:
        return _Shape(self, method)


class _LoginRefused(Exception):
    """Status 401."""


class _Shape:
    """Turns what taking an unexpected answer apart raises into NodeAnswerError."""

    def __init__(self, node: NodeRpc, method: str) -> None:
        self._node = node
        self._method = method

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None and issubclass(kind, (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)):
            raise self._node._no_node(f"its answer to {self._method} has another shape") from None


def _count(value: Any) -> int:
    """A whole number from 0 to 2^53. Raises ValueError."""
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError("not a count")
    return value


def _hash(value: Any) -> bytes:
    """32 bytes in internal order from 64 hex digits. Raises ValueError."""
    if not isinstance(value, str) or len(value) != 64:
        raise ValueError("not a hash")
    return bytes.fromhex(value)[::-1]


def _sats(value: Any) -> int:
    """Satoshis of an amount in BTC with at most 8 places. Raises ValueError."""
    amount = value if isinstance(value, Decimal) else Decimal(_count(value))
    if not 0 <= amount <= MAX_MONEY_SATS // COIN_SATS:  # before any arithmetic: 1e999999999 is a number, too
        raise ValueError("not an amount")
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -8:
        raise ValueError("not an amount")
    return int(amount * COIN_SATS)


def _printable(text: Any, most: int) -> str:
    """Words of a node, made safe to print. Raises ValueError where it is no text."""
    if not isinstance(text, str):
        raise ValueError("no text")
    return "".join(c if c.isprintable() else "?" for c in text[:most])
