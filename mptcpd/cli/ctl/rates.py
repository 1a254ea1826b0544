"""What changes from one snapshot to the next: rates, shares, what appeared and what is gone.

Knows counters and elapsed time; must not know how that is shown. A rate is the difference of two
counters by the time that really passed. What is gone stays in view for ``LINGER`` seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mptcpd.cli.ctl import quantity
from mptcpd.cli.ctl.shares import sent
from mptcpd.cli.ctl.snapshot import JOINED, Connection
from mptcpd.nl import uapi as u
from mptcpd.nl.diag_sockets import MptcpSocket, TcpSocket
from mptcpd.nl.info import MptcpInfo, TcpInfo, mptcp_info, tcp_info

LINGER = 5.0  # seconds
HISTORY = 60  # rates kept of each connection
_BACKUPS = (
    (u.MPTCP_SUBFLOW_FLAG_BKUP_LOC, ""), (u.MPTCP_SUBFLOW_FLAG_BKUP_REM, " by peer"),
)  # fmt: skip
BACKUP = u.MPTCP_SUBFLOW_FLAG_BKUP_REM | u.MPTCP_SUBFLOW_FLAG_BKUP_LOC


class Change(NamedTuple):
    """Something that was not so in the snapshot before.

    kind     "created", "closed", "established" (a subflow), "subflow closed", "backup", "no backup"
             (we asked for it), "backup by peer", "no backup by peer"
    subflow  None where it is about the whole connection
    """

    time: float
    kind: str
    token: int
    subflow: TcpSocket | None


class SubflowView:
    """A subflow between two snapshots.

    up, down  bytes a second that the peer confirmed, and that came; None at the first sight
    share     percent of the connection's traffic just now, None if there is none
    resent    segments sent again since the snapshot before
    since     when it was first seen; None: it was there before we looked
    gone      when it was seen to be gone, None while it is there
    """

    __slots__ = ("down", "gone", "info", "resent", "share", "since", "socket", "up")

    def __init__(self, socket: TcpSocket, since: float | None) -> None:
        self.socket = socket
        self.since = since
        # Of a new one all counters belong to the time since the last look.
        self.info = tcp_info(socket.info) if since is None else TcpInfo()
        self.up: float | None = None
        self.down: float | None = None
        self.share: int | None = None
        self.resent = 0
        self.gone: float | None = None

    @property
    def joined(self) -> bool:
        return bool(self.socket.flags & JOINED)

    @property
    def backup(self) -> bool:
        return bool(self.socket.flags & BACKUP)

    def update(self, socket: TcpSocket, seconds: float | None) -> None:
        before, now = self.info, tcp_info(socket.info)
        self.socket, self.info, self.gone = socket, now, None
        if seconds is not None:
            self.up = _rate(sent(before), sent(now), seconds)
            self.down = _rate(before.bytes_received, now.bytes_received, seconds)
            self.resent = max(0, (now.total_retrans or 0) - (before.total_retrans or 0))

    def end(self, time: float) -> None:
        self.up = self.down = 0.0
        self.share, self.resent, self.gone = None, 0, time


class ConnectionView:
    """A connection between two snapshots; fields as in SubflowView.

    up, down  data of the application, each byte counted once, as the kernel counts it (Linux 6.5);
              where it does not, all that the subflows carry
    history   sums of up and down, the latest last; empty while nothing was ever seen to move
    role      "client", "server" or None
    """

    __slots__ = (
        "down", "gone", "history", "info", "resent", "role", "since", "socket", "subflows", "up",
    )  # fmt: skip

    def __init__(self, socket: MptcpSocket, since: float | None) -> None:
        self.socket = socket
        self.since = since
        self.info = mptcp_info(socket.info) if since is None else MptcpInfo()
        self.role: str | None = None
        self.subflows: dict[int, SubflowView] = {}
        self.up: float | None = None
        self.down: float | None = None
        self.resent = 0
        self.gone: float | None = None
        self.history: list[float] = []

    @property
    def living(self) -> Iterator[SubflowView]:
        return (view for view in self.subflows.values() if view.gone is None)

    @property
    def rate(self) -> float:
        """Up and down together, 0 where not known: to sort by."""
        return (self.up or 0) + (self.down or 0)

    @property
    def rtt(self) -> int:
        """The longest of its subflows' round trips, microseconds."""
        return max((view.info.rtt or 0 for view in self.living), default=0)

    def update(self, found: Connection, seconds: float | None) -> None:
        before, now = self.info, mptcp_info(found.socket.info)
        self.socket, self.info, self.gone = found.socket, now, None
        self.role = found.role or self.role
        views = list(self.living)
        amounts = [(view.up or 0) + (view.down or 0) for view in views]
        for view, share in zip(views, quantity.percentages(amounts), strict=True):
            view.share = share
        self.resent = sum(view.resent for view in views)
        if seconds is None:
            return
        if now.bytes_acked is not None and now.bytes_received is not None:
            self.up = _rate(before.bytes_acked, now.bytes_acked, seconds)
            self.down = _rate(before.bytes_received, now.bytes_received, seconds)
        else:
            self.up = sum(view.up or 0 for view in views)
            self.down = sum(view.down or 0 for view in views)
        if self.history or self.rate:
            self.history.append(self.rate)
            del self.history[:-HISTORY]

    def end(self, time: float) -> None:
        self.up = self.down = 0.0
        self.resent, self.gone = 0, time


class Tracker:
    """All connections that are or were just there, by the cookie of their socket.

    time     of the last snapshot
    seconds  between the last two snapshots; None before the second one
    changes  what the last one brought
    """

    def __init__(self) -> None:
        self.connections: dict[int, ConnectionView] = {}
        self.seconds: float | None = None
        self.changes: list[Change] = []
        self.time = 0.0
        self._first = True

    def update(self, time: float, found: Iterable[Connection]) -> None:
        """Compare with the snapshot before; ``time`` is this one's, monotonic, in seconds."""
        first, self._first = self._first, False
        self.seconds = None if first else max(time - self.time, 1e-6)
        self.time = time
        self.changes = []
        seen = set()
        for connection in found:
            cookie = connection.socket.cookie
            seen.add(cookie)
            view = self.connections.get(cookie)
            if view is None:
                view = ConnectionView(connection.socket, None if first else time)
                self.connections[cookie] = view
                self._note(first, "created", view)
            self._subflows(view, connection.subflows, time, first)
            view.update(connection, self.seconds)
        for cookie in self.connections.keys() - seen:
            view = self.connections[cookie]
            if view.gone is None:
                view.end(time)
                self._note(False, "closed", view)
                for subflow in view.living:
                    subflow.end(time)
            elif time - view.gone > LINGER:
                del self.connections[cookie]

    def _subflows(
        self, view: ConnectionView, found: list[TcpSocket], time: float, first: bool
    ) -> None:
        seen = set()
        for socket in found:
            seen.add(socket.cookie)
            subflow = view.subflows.get(socket.cookie)
            if subflow is None:
                subflow = SubflowView(socket, None if first else time)
                view.subflows[socket.cookie] = subflow
                self._note(first or view.since == time, "established", view, socket)
            for flag, whose in _BACKUPS if subflow.socket is not socket else ():
                if (socket.flags ^ subflow.socket.flags) & flag:
                    kind = ("backup" if socket.flags & flag else "no backup") + whose
                    self._note(False, kind, view, socket)
            subflow.update(socket, self.seconds)
        for cookie in view.subflows.keys() - seen:
            subflow = view.subflows[cookie]
            if subflow.gone is None:
                subflow.end(time)
                self._note(False, "subflow closed", view, subflow.socket)
            elif time - subflow.gone > LINGER:
                del view.subflows[cookie]

    def _note(
        self, quiet: bool, kind: str, view: ConnectionView, subflow: TcpSocket | None = None
    ) -> None:
        if not quiet:
            self.changes.append(Change(self.time, kind, view.socket.token, subflow))


def _rate(before: int | None, now: int | None, seconds: float) -> float | None:
    # A socket that was disconnected and connected again begins anew.
    return None if now is None else max(0, now - (before or 0)) / seconds
