"""One MPTCP connection with its subflows, as events and sock_diag tell of it.

Knows what is remembered of a connection; must not know events, sockets or who is told of a change:
``connections`` decides what happens, this holds what is.

A connection with nothing but its first subflow, which is the usual one, keeps one bytes object for
both ends and nothing else: 250 bytes a connection with its place in the table (measured).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from mptcpd.core.address import IP, SockAddr
from mptcpd.core.path import unpack_local, unpack_path, unpack_remote

ABSENT, CREATED, ESTABLISHED = range(3)  # states
Pair: TypeAlias = tuple[IP, SockAddr]  # a local IP, and a remote address with its port

_RECENT = 16  # closed subflows that a connection remembers, to know a repeated SUB_CLOSED


class Subflow(NamedTuple):
    """One subflow; immutable.

    local, remote  both ends, with ports       local_id, remote_id  address IDs; 0: the first one's
    backup         used only when no other can be
    ifindex        only where the subflow is bound to a device
    error          once closed: errno, 0 for none; None before
    reset_reason, reset_flags  once closed, of the peer's MP_TCPRST (RFC 8684, 3.6); else None
    """

    local: SockAddr
    remote: SockAddr
    local_id: int = 0
    remote_id: int = 0
    backup: bool = False
    ifindex: int | None = None
    error: int | None = None
    reset_reason: int | None = None
    reset_flags: int | None = None


class Connection:
    """An MPTCP connection of this host, as far as events and sock_diag tell. Plugins read it.

    token             names it               local, remote  both ends of the first subflow
    server_side       the peer connected to us
    deny_join_id0     the peer wants no joins to its initial address; False where unknown (a
                      connection that was adopted)
    established       further subflows may be created
    subflows          (local IP, local port, remote IP, remote port) -> Subflow
    announced         our address ID -> SockAddr that we announced
    remote_addresses  the peer's address ID -> SockAddr that it announced
    """

    __slots__ = (
        "_flows", "_more", "_path", "deny_join_id0", "owner", "server_side", "state", "token",
    )  # fmt: skip

    def __init__(self, token: int, path: bytes, server_side: bool, deny_join_id0: bool) -> None:
        self.token = token
        self.server_side = server_side
        self.deny_join_id0 = deny_join_id0
        self.state = ABSENT
        # Who answers for the connection; the listener of the table sets and reads it.
        self.owner: Any = None
        self._path = path
        # Path -> the rest of a Subflow, packed. None: the first one and no other.
        self._flows: dict[bytes, int] | None = None
        self._more: _More | None = None

    @property
    def established(self) -> bool:
        return self.state == ESTABLISHED

    @property
    def local(self) -> SockAddr:
        return unpack_local(self._path)

    @property
    def remote(self) -> SockAddr:
        return unpack_remote(self._path)

    @property
    def subflows(self) -> Mapping[tuple[Any, int, Any, int], Subflow]:
        found = [_unpacked(path, rest) for path, rest in self._all().items()]
        return {
            (flow.local.ip, flow.local.port, flow.remote.ip, flow.remote.port): flow
            for flow in found
        }

    @property
    def announced(self) -> Mapping[int, SockAddr]:
        return MappingProxyType(_NOTHING if self._more is None else self._more.announced)

    @property
    def remote_addresses(self) -> Mapping[int, SockAddr]:
        return MappingProxyType(_NOTHING if self._more is None else self._more.remote_addresses)

    def __repr__(self) -> str:
        return f"<Connection {self.token:08x} {self.local} {self.remote}>"

    @property
    def first(self) -> bytes:
        """The packed path of the first subflow."""
        return self._path

    def is_from(self, local: SockAddr) -> bool:
        """Whether the first subflow has this local IP, whatever the ports."""
        ip = local.packed
        return len(self._path) == 2 * len(ip) + 4 and self._path.startswith(ip)

    def is_first(self, path: bytes) -> bool:
        """Whether this packed path is that of the first subflow."""
        return path == self._path

    def is_only(self, path: bytes) -> bool:
        """Whether the first subflow has this packed path and there never was another."""
        return self._flows is None and path == self._path

    def paths(self) -> list[bytes]:
        """The packed paths of all subflows."""
        return [self._path] if self._flows is None else list(self._flows)

    @property
    def count(self) -> int:
        """How many subflows there are."""
        return 1 if self._flows is None else len(self._flows)

    def find(self, path: bytes) -> Subflow | None:
        """The subflow with this packed path."""
        rest = self.rest(path)
        return None if rest is None else _unpacked(path, rest)

    def rest(self, path: bytes) -> int | None:
        """What there is of this subflow beside its path, as ``pack_rest`` packs it."""
        return self._all().get(path)

    def put(self, path: bytes, subflow: Subflow) -> None:
        """Add or replace a subflow."""
        ids = subflow.local_id, subflow.remote_id
        self.put_packed(path, pack_rest(*ids, subflow.backup, subflow.ifindex))

    def put_packed(self, path: bytes, rest: int) -> None:
        """As ``put``, with what ``pack_rest`` made of it."""
        self._flows = self._all()
        known = path in self._flows
        self._flows[path] = rest
        if self._more is not None and not known:
            if path in self._more.recent:
                self._more.recent.remove(path)
            self._heard_of(path)

    def drop(self, path: bytes) -> Subflow | None:
        """Take a subflow out and remember that it was closed."""
        self._flows = self._all()
        recent = self._rest().recent
        recent.append(path)
        del recent[:-_RECENT]
        rest = self._flows.pop(path, None)
        if rest is None:  # it did not come up
            self._heard_of(path)
        return None if rest is None else _unpacked(path, rest)

    def closed_before(self, path: bytes) -> bool:
        """Whether this subflow was closed not long ago."""
        return self._more is not None and path in self._more.recent

    def tried(self, local: SockAddr, remote: SockAddr) -> tuple[bool, bool]:
        """Whether a subflow from this IP to there is open, and whether one closed or failed lately.

        A connection that was adopted knows nothing of what was before.
        """
        ip, end = local.packed, remote.packed + remote.port.to_bytes(2, "big")
        size = 2 + len(ip) + len(end)
        closed = () if self._more is None else self._more.recent

        def among(paths: Iterable[bytes]) -> bool:
            return any(
                path.startswith(ip) and path.endswith(end) and len(path) == size for path in paths
            )

        return among(self._all()), among(closed)

    def note_asked(self, local: SockAddr, remote: SockAddr, backup: bool) -> None:
        """Record that we asked for a subflow from here to there, and whether as a backup.

        The event that it came up tells only what the peer asked for (subflow->backup; ours is
        subflow->request_bkup, which no event has).
        """
        more, pair = self._rest(), (local.ip, remote)
        more.asked[pair] = object()
        if backup:
            more.backups.add(pair)
        else:
            more.backups.discard(pair)

    @property
    def asked(self) -> Mapping[Pair, object]:
        """Subflows that we asked for and that neither came up nor failed yet, as far as was told.

        The value tells a request from an earlier one for the same pair.
        """
        return _NO_PAIRS if self._more is None else self._more.asked

    def give_up(self, pair: Pair, request: object) -> bool:
        """Await this subflow no more; False if that is another request, or not awaited."""
        if self.asked.get(pair) is not request:
            return False
        self._rest().asked.pop(pair, None)
        return True

    def asked_backup(self, subflow: Subflow) -> bool:
        """Whether we asked for this subflow as a backup."""
        more = self._more
        return more is not None and (subflow.local.ip, subflow.remote) in more.backups

    def note_announced(self, ident: int, address: SockAddr | None) -> None:
        """Record what we announced under this address ID; None: removed."""
        _note(self._rest().announced, ident, address)

    def note_remote(self, ident: int, address: SockAddr | None) -> None:
        """Record what the peer announced under this address ID; None: removed."""
        _note(self._rest().remote_addresses, ident, address)

    def _heard_of(self, path: bytes) -> None:
        """What became of a subflow that we may have asked for is known."""
        asked = self._rest().asked
        if asked:
            local, remote = unpack_path(path)
            asked.pop((local.ip, remote), None)

    def _all(self) -> dict[bytes, int]:
        return {self._path: 0} if self._flows is None else self._flows

    def _rest(self) -> _More:
        if self._more is None:
            self._more = _More()
        return self._more


class _More:
    """What few connections have: a connection makes it when there is something to remember."""

    __slots__ = ("announced", "asked", "backups", "recent", "remote_addresses")

    def __init__(self) -> None:
        self.announced: dict[int, SockAddr] = {}
        self.remote_addresses: dict[int, SockAddr] = {}
        self.recent: list[bytes] = []  # paths that were closed
        self.asked: dict[Pair, object] = {}
        self.backups: set[Pair] = set()


_NOTHING: dict[int, SockAddr] = {}
_NO_PAIRS: Mapping[Pair, object] = MappingProxyType({})


def _note(table: dict[int, SockAddr], ident: int, address: SockAddr | None) -> None:
    if address is None:
        table.pop(ident, None)
    else:
        table[ident] = address


# A Subflow object with its addresses takes 600 bytes, its path with this number 80: with 75,000
# connections of two subflows each that makes the difference. An open subflow has no more than this.


def pack_rest(local_id: int, remote_id: int, backup: bool, ifindex: int | None) -> int:
    """All of an open subflow but its path, as one number."""
    return local_id | remote_id << 8 | backup << 16 | (ifindex or 0) << 17


def is_backup(rest: int) -> bool:
    return bool(rest & 1 << 16)


def ifindex_of(rest: int) -> int:
    """0 if the subflow is bound to no interface."""
    return rest >> 17


def _unpacked(path: bytes, rest: int) -> Subflow:
    local, remote = unpack_path(path)
    ids = rest & 0xFF, rest >> 8 & 0xFF
    return Subflow(local, remote, *ids, is_backup(rest), rest >> 17 or None)
