"""Connections of a host and the userspace path manager over them: rules, words, and events.

Knows what happens to a connection, by us, by its peer, by a command, and what is told of it; must
not know netlink (``mptcp_pm`` and ``sockets`` do).

Source  net/mptcp/pm_userspace.c (Linux 6.18), and what was seen of a real kernel.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from mptcpd.core.address import SockAddr, from_packed, sockaddr
from mptcpd.nl import mptcp
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp_event import Event

TOKEN = 0x1000
Ends = tuple[SockAddr, SockAddr]


def event(kind: int, token: int, local: str = "", remote: str = "", **fields: Any) -> Event:
    """An event about a path, with its addresses as text."""
    if local:
        here = sockaddr(local)
        fields.update(local_ip=here.packed, local_port=here.port)
    if remote:
        there = sockaddr(remote)
        fields.update(remote_ip=there.packed, remote_port=there.port)
    return Event(kind, token, **fields)


class Flow(NamedTuple):
    """What there is to know of a subflow besides its ends and its local ID."""

    remote_id: int = 0
    backup: int = 0
    ifindex: int | None = None
    join: bool = False


class Entry(NamedTuple):
    """An address in the list that the kernel keeps for a connection."""

    address: SockAddr
    id: int
    flags: int = mptcp.FLAGS["subflow"]
    ifindex: int | None = None


class Tried(NamedTuple):
    """A subflow that was asked for, and neither came up nor failed yet."""

    token: int
    ends: Ends
    ident: int
    flow: Flow


class ConnectionTable:
    """Connections, with what can be done to them.

    asked     what was asked of it, in words      events   what it has to tell, oldest first
    up        token -> subflows that are up, each with its local ID
    pending   subflows that are being tried; ``answer`` says what becomes of them
    entries   token -> its list of local addresses; theirs: the peer's list
    later     what the peer will do once it has heard of it (``react``)
    lacks     local IPs that nothing can be bound to
    foreign   tokens of connections of the kernel's own path manager
    servers   tokens of connections that the peer opened     first  token -> ends of the first one
    is_local  whether the host has this address
    waiting   token -> bytes that the peer has not confirmed
    heard     token -> bytes received, and milliseconds since the last came
    """

    def __init__(self) -> None:
        self.waiting: dict[int, int] = {}
        self.heard: dict[int, tuple[int, int]] = {}
        self.asked: list[str] = []
        self.events: list[Event] = []
        self.up: dict[int, dict[Ends, int]] = {}
        self.pending: list[Tried] = []
        self.entries: dict[int, list[Entry]] = {}
        self.theirs: dict[int, list[Entry]] = {}
        self.later: list[Callable[[], None]] = []
        self.lacks: set[str] = set()
        self.foreign: set[int] = set()
        self.servers: set[int] = set()
        self.established: set[int] = set()
        self.first: dict[int, Ends] = {}
        self.is_local: Callable[[IPv4Address | IPv6Address], bool] = lambda ip: True
        self._flows: dict[tuple[int, Ends], Flow] = {}
        self._port = 40000

    def flow(self, token: int, ends: Ends) -> Flow:
        """More of a subflow."""
        return self._flows.get((token, ends), Flow())

    # What happens to them.

    def create(
        self,
        token: int = TOKEN,
        local: str = "10.0.1.1:5000",
        remote: str = "10.0.1.2:80",
        *,
        server: bool = False,
        flags: int = 0,
    ) -> None:
        """A connection begins."""
        self.first[token] = sockaddr(local), sockaddr(remote)
        self.up[token] = {self.first[token]: 0}
        self.entries[token], self.theirs[token] = [], []
        (self.servers.add if server else self.servers.discard)(token)
        self._about(u.MPTCP_EVENT_CREATED, token, flags)

    def establish(self, token: int = TOKEN, flags: int = 0) -> None:
        """Data was exchanged: it takes further subflows."""
        self.established.add(token)
        self._about(u.MPTCP_EVENT_ESTABLISHED, token, flags)

    def open(
        self,
        token: int = TOKEN,
        local: str = "10.0.1.1:5000",
        remote: str = "10.0.1.2:80",
        *,
        server: bool = False,
        flags: int = 0,
    ) -> None:
        """A connection that is created and established."""
        self.create(token, local, remote, server=server, flags=flags)
        self.establish(token, flags)

    def _about(self, kind: int, token: int, flags: int) -> None:
        local, remote = map(str, self.first[token])
        server = int(token in self.servers)
        self.events.append(event(kind, token, local, remote, server_side=server, flags=flags))

    def close(self, token: int = TOKEN) -> None:
        """Our program closes it: nothing is told of its subflows."""
        self._forget(token)
        self.events.append(Event(u.MPTCP_EVENT_CLOSED, token))

    def abort(self, token: int = TOKEN) -> None:
        """The peer aborts it (MP_FASTCLOSE), of which no event tells."""
        self._forget(token)

    def _forget(self, token: int) -> None:
        for ends in self.up.pop(token):
            self._flows.pop((token, ends), None)
        del self.entries[token], self.theirs[token], self.first[token]
        self.established.discard(token)
        self.foreign.discard(token)

    def peer_announces(self, remote: str, ident: int, token: int = TOKEN) -> None:
        where = sockaddr(remote)
        theirs = self.theirs[token]
        theirs[:] = [entry for entry in theirs if entry.id != ident] + [Entry(where, ident)]
        self.events.append(
            event(u.MPTCP_EVENT_ANNOUNCED, token, remote=remote, remote_id=ident)
        )

    def peer_removes(self, ident: int, token: int = TOKEN) -> None:
        """Its subflows go with the address."""
        theirs = self.theirs[token]
        theirs[:] = [entry for entry in theirs if entry.id != ident]
        self.events.append(Event(u.MPTCP_EVENT_REMOVED, token, remote_id=ident))
        for ends in list(self.up[token]):
            flow = self.flow(token, ends)
            if flow.remote_id == ident and (flow.join or not ident):
                self.drop(token, ends)

    def peer_joins(self, local: str, remote: str, token: int = TOKEN, remote_id: int = 0) -> None:
        """The kernel numbers our address itself if it does not know it."""
        ends = sockaddr(local), sockaddr(remote)
        ident = _numbered(self.entries[token], ends[0])
        self._established(token, ends, ident, Flow(remote_id, join=True))

    def peer_destroys(self, ends: Ends, token: int = TOKEN) -> None:
        """The peer closes a subflow, and forgets what ID its end had."""
        theirs = self.theirs[token]
        theirs[:] = [entry for entry in theirs if entry.address.ip != ends[1].ip]
        self.drop(token, ends)

    def react(self) -> None:
        """The peer does what it does when it hears of what we did."""
        later, self.later = self.later, []
        for action in later:
            action()

    def peer_prefers(self, ends: Ends, backup: int, token: int = TOKEN) -> None:
        """The peer asks for a subflow to be a backup, or no more (MP_PRIO)."""
        flow = self.flow(token, ends)._replace(backup=backup)
        self._flows[token, ends] = flow
        self._tell(u.MPTCP_EVENT_SUB_PRIORITY, token, ends, self.up[token][ends], flow)

    def answer(self, error: int = 0) -> None:
        """What becomes of the oldest subflow that was asked for."""
        token, ends, ident, flow = self.pending.pop(0)
        if token not in self.up:
            return
        if error:
            self._tell(u.MPTCP_EVENT_SUB_CLOSED, token, ends, ident, flow, error=error)
            return
        # Which ID its end has, the peer says (MP_JOIN SYN/ACK), whatever we thought.
        to_first = ends[1].ip == self.first[token][1].ip
        number = 0 if to_first else _numbered(self.theirs[token], ends[1])
        self._established(token, ends, ident, flow._replace(remote_id=number))

    def drop(self, token: int, ends: Ends, error: int = 0) -> None:
        """A subflow closes."""
        ident = self.up[token].pop(ends)
        flow = self._flows.pop((token, ends), Flow())
        fields = {"error": error} if error else {}
        self._tell(u.MPTCP_EVENT_SUB_CLOSED, token, ends, ident, flow, **fields)

    def _established(self, token: int, ends: Ends, ident: int, flow: Flow) -> None:
        self.up[token][ends] = ident
        self._flows[token, ends] = flow
        self._tell(u.MPTCP_EVENT_SUB_ESTABLISHED, token, ends, ident, flow)

    def _tell(
        self, kind: int, token: int, ends: Ends, ident: int, flow: Flow, **fields: Any
    ) -> None:
        local, remote = map(str, ends)
        fields.update(local_id=ident, remote_id=flow.remote_id, backup=flow.backup)
        fields.update(ifindex=flow.ifindex)
        self.events.append(event(kind, token, local, remote, **fields))

    # What the commands ask for.

    def announce(self, token: int, address: mptcp.Address) -> None:
        where, ident = _where(address), address.id or 0
        self._check("ANNOUNCE", token, f"{where} id {ident}")
        if not ident:
            raise refusal("ANNOUNCE", errno.EINVAL, "invalid addr id", ADDR)
        if not (address.flags or 0) & mptcp.FLAGS["signal"]:
            raise refusal("ANNOUNCE", errno.EINVAL, "invalid addr flags", ADDR)
        self._append("ANNOUNCE", token, Entry(where, ident, mptcp.FLAGS["signal"]))

    def remove(self, token: int, ident: int) -> None:
        """Subflows from there close when the peer has heard of it; from the first one's at once."""
        self._check("REMOVE", token, f"id {ident}")
        if not ident:
            first = self.first[token][0].ip
            for ends in [ends for ends in self.up[token] if ends[0].ip == first]:
                self.drop(token, ends)
            return
        if ident not in (entry.id for entry in self.entries[token]):
            words = f"address with id {ident} not found"
            raise refusal("REMOVE", errno.EINVAL, words, "MPTCP_PM_ATTR_LOC_ID")
        self.entries[token] = [entry for entry in self.entries[token] if entry.id != ident]

        def close() -> None:
            flows = self.up.get(token, {})
            for ends in [ends for ends, number in flows.items() if number == ident]:
                self.drop(token, ends)

        self.later.append(close)

    def subflow_create(self, token: int, local: mptcp.Address, remote: mptcp.Address) -> None:
        where, ident = _where(local), local.id or 0
        backup = (local.flags or 0) & mptcp.FLAGS["backup"]
        dev = f" dev {local.ifindex}" if local.ifindex else ""
        there = _where(remote)
        words = f"{where} id {ident} to {there} id {remote.id}{' backup' if backup else ''}{dev}"
        self._check("SUBFLOW_CREATE", token, words)
        if (local.flags or 0) & mptcp.FLAGS["signal"]:
            raise refusal("SUBFLOW_CREATE", errno.EINVAL, "invalid addr flags", ADDR)
        if where.ip.version != there.ip.version:
            raise refusal("SUBFLOW_CREATE", errno.EINVAL, "families mismatch")
        entry = Entry(where, ident, mptcp.FLAGS["subflow"] | backup, local.ifindex)
        added = self._append("SUBFLOW_CREATE", token, entry)
        if str(where.ip) in self.lacks or not self.is_local(where.ip):
            # net/mptcp/pm_userspace.c: a create that fails takes the entry out again.
            self.entries[token].remove(added)
            raise refusal("SUBFLOW_CREATE", errno.EADDRNOTAVAIL, "connect error: -99")
        self._port += 1
        ends = SockAddr(where.ip, where.port or self._port), there
        # What we asked for as a backup is none to the peer's eyes: no event tells of it.
        flow = Flow(remote.id or 0, 0, local.ifindex, join=True)
        self.pending.append(Tried(token, ends, ident, flow))

    def subflow_destroy(self, token: int, local: mptcp.Address, remote: mptcp.Address) -> None:
        ends = _where(local), _where(remote)
        self._check("SUBFLOW_DESTROY", token, f"{ends[0]} to {ends[1]}")
        for end, which, attribute in zip(ends, ("local", "remote"), (ADDR, REMOTE), strict=True):
            if not end.port:
                words = f"missing {which} port"
                raise refusal("SUBFLOW_DESTROY", errno.EINVAL, words, attribute)
        if ends not in self.up[token]:
            raise refusal("SUBFLOW_DESTROY", errno.ESRCH, "subflow not found")
        known = self.entries[token]
        self.entries[token] = [entry for entry in known if entry.address.ip != ends[0].ip]
        self.drop(token, ends)

    def set_flags(
        self, address: mptcp.Address, remote: mptcp.Address | None, token: int | None
    ) -> None:
        assert remote is not None and token is not None
        ends = _where(address), _where(remote)
        self._check("SET_FLAGS", token, f"{address.flags} {ends[0]} to {ends[1]}")
        for known in self.up[token]:
            if all(
                given.ip == end.ip and given.port in (0, end.port)
                for given, end in zip(ends, known, strict=True)
            ):
                self._note_backup(token, ends[0], (address.flags or 0) & mptcp.FLAGS["backup"])
                return
        raise refusal("SET_FLAGS", errno.EINVAL, "subflow not found")

    def _note_backup(self, token: int, local: SockAddr, backup: int) -> None:
        """mptcp_userspace_pm_set_flags: in the list, too, where the address is as it was given."""
        self.entries[token] = [
            entry._replace(flags=entry.flags & ~mptcp.FLAGS["backup"] | backup)
            if entry.address.ip == local.ip
            else entry
            for entry in self.entries[token]
        ]

    def dump_addrs(self, token: int | None) -> list[mptcp.Address]:
        assert token is not None
        self.exists("GET_ADDR", token)
        return [
            mptcp.Address(known.packed, known.port, ident, flags, ifindex)
            for known, ident, flags, ifindex in self.entries[token]
        ]

    def get_addr(self, ident: int, token: int) -> mptcp.Address:
        # One that is asked for by its ID is not found, also where there is no such connection.
        for known, number, flags, ifindex in self.entries.get(token, ()):
            if number == ident:
                return mptcp.Address(known.packed, known.port, ident, flags, ifindex)
        raise refusal("GET_ADDR", errno.EINVAL, "address not found", ADDR)

    def _check(self, command: str, token: int, words: str) -> None:
        self.asked.append(f"{command} {words}")
        self.exists(command, token)

    def exists(self, command: str, token: int) -> None:
        if token in self.foreign:
            raise refusal(command, errno.EINVAL, "userspace PM not selected", _TOKEN)
        if token not in self.up:
            raise refusal(command, errno.EINVAL, "invalid token", _TOKEN)

    def _append(self, command: str, token: int, entry: Entry) -> Entry:
        """mptcp_userspace_pm_append_new_local_addr: the entry that there is from now on."""
        for known in self.entries[token]:
            same = known.address == entry.address, known.id == entry.id
            if all(same):
                return known
            if any(same):
                raise refusal(command, errno.EINVAL, "did not match address and id", ADDR)
        self.entries[token].append(entry)
        return entry


def _numbered(entries: list[Entry], end: SockAddr) -> int:
    """The ID of an address in a list, which gets it a new one if it is not there."""
    for entry in entries:
        if entry.address.ip == end.ip:
            return entry.id
    taken = {entry.id for entry in entries}
    entries.append(
        Entry(SockAddr(end.ip), next(number for number in range(1, 256) if number not in taken))
    )
    return entries[-1].id


ADDR, REMOTE = "MPTCP_PM_ATTR_ADDR", "MPTCP_PM_ATTR_ADDR_REMOTE"
_TOKEN = "MPTCP_PM_ATTR_TOKEN"


def _where(address: mptcp.Address) -> SockAddr:
    assert address.ip is not None
    return from_packed(address.ip, address.port)


def refusal(
    command: str, number: int, words: str, attribute: str | None = None
) -> KernelError:
    return KernelError(f"MPTCP_PM_CMD_{command}", number, words, attribute)
