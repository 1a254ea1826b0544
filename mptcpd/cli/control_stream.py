"""Streams of what happens, for clients that have subscribed.

Knows what there is to tell and in which words; must not know sockets. Who reads too slowly, or more
happens than can be told without slowing the daemon down, loses some of it, and is told how much.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mptcpd.cli import control_room
from mptcpd.cli.control_protocol import KINDS, Refusal, line
from mptcpd.cli.control_words import event_fields, event_name
from mptcpd.core.address import SockAddr
from mptcpd.core.loop import Timer
from mptcpd.core.network import Interface
from mptcpd.nl import words
from mptcpd.nl.errors import KernelError, NetlinkError
from mptcpd.nl.exchange import Names
from mptcpd.nl.mptcp_event import EVENTS, Event

if TYPE_CHECKING:
    from mptcpd.cli.control import Control
    from mptcpd.cli.control_server import Client
    from mptcpd.cli.service import Service

RATE = 2000.0  # things told in a second; one costs 15 us
_BURST = 2000.0
_GAP = 0.5  # seconds


class _Subscriber:
    __slots__ = ("client", "kinds", "lost")

    def __init__(self, client: Client, kinds: frozenset[str]) -> None:
        self.client = client
        self.kinds = kinds
        self.lost = 0


class Stream(logging.Handler):
    """The subscribers; also an Observer of events, and a handler of what is logged."""

    def __init__(self, service: Service, control: Control) -> None:
        super().__init__()
        self._service = service
        self._control = control
        self._subscribers: dict[Client, _Subscriber] = {}
        self._tokens = _BURST
        self._filled = service.loop.time()
        self._telling = False
        self._gap: Timer | None = None

    def add(self, client: Client, kinds: frozenset[str] | None) -> frozenset[str]:
        """Somebody subscribes, or to something else than before; None: to everything.

        Errors  Refusal, if there are too many already: others want to ask something, too.
        """
        fresh = client not in self._subscribers
        if fresh and not control_room.may_subscribe(len(self._subscribers), client.peer):
            raise Refusal("too-many", f"{len(self._subscribers)} clients have subscribed already")
        wanted = kinds or frozenset(KINDS)
        self._subscribers[client] = _Subscriber(client, wanted)
        client.stream = True
        self._listen()
        return wanted

    def remove(self, client: Client) -> None:
        """Somebody has gone, subscriber or not."""
        if self._subscribers.pop(client, None) is not None:
            self._listen()

    def _listen(self) -> None:
        """Have those things told here that anybody wants, and no others."""
        service = self._service
        wanted = {kind for each in self._subscribers.values() for kind in each.kinds}
        if "connections" in wanted:
            service.watch.observe(self, frozenset(EVENTS))
        else:
            service.watch.observe(None)
        service.registry.heard = self._hook if "network" in wanted else None
        service.kernel.counts.heard = self._command if "commands" in wanted else None
        logger = logging.getLogger()
        logger.removeHandler(self)
        if "log" in wanted:
            logger.addHandler(self)

    # connections: an Observer of core.connection_watch

    def wants(self) -> bool:
        now = self._service.loop.time()
        self._tokens = min(_BURST, self._tokens + RATE * (now - self._filled))
        self._filled = now
        return self._tokens >= 1

    def event(self, event: Event) -> None:
        if self._spend("connections"):
            self._tell("connections", {"event": event_name(event.kind), **event_fields(event)})

    def missed(self, count: int) -> None:
        self._lose("connections", count)

    # network: what Registry.heard is told

    def _hook(self, hook: str, arguments: Iterable[object]) -> None:
        said: dict[str, Any] = {"event": hook}
        for argument in arguments:
            if isinstance(argument, Interface):
                said |= {"interface": argument.name, "ifindex": argument.index}
            elif isinstance(argument, SockAddr):
                said["address"] = str(argument)
        if self.wants() and self._spend("network"):
            self._tell("network", said)

    # commands: what Counts.heard is told

    def _command(
        self, command: str, body: bytes, names: Names | None, error: NetlinkError | None
    ) -> None:
        if not (self.wants() and self._spend("commands")):
            return
        said: dict[str, Any] = {"event": command, "text": words.command(command, body, names)}
        if isinstance(error, KernelError):
            said |= {"errno": error.errno, "words": error.words}
        if error is not None:
            said["error"] = str(error)
        self._tell("commands", said)

    # log: a handler of the logging module

    def emit(self, record: logging.LogRecord) -> None:
        # To tell may itself be logged, and that again.
        if not self._telling and self.wants() and self._spend("log"):
            self._tell(
                "log",
                {
                    "event": record.levelname.lower(),
                    "text": self.format(record),
                    "logger": record.name,
                },
            )

    def _spend(self, kind: str) -> bool:
        if self._tokens < 1:
            self._lose(kind, 1)
            return False
        self._tokens -= 1
        return True

    def _lose(self, kind: str, count: int) -> None:
        for each in self._subscribers.values():
            if kind in each.kinds:
                each.lost += count
                self._tell_gaps_later()

    def _tell_gaps_later(self) -> None:
        """What was lost is told with what comes next, or, if nothing does, by itself."""
        if self._gap is None or not self._gap.pending:
            self._gap = self._service.loop.call_later(_GAP, self._tell_gaps)

    def _tell_gaps(self) -> None:
        for each in list(self._subscribers.values()):
            if each.lost and not self._gap_told(each, 0):
                self._tell_gaps_later()

    def _gap_told(self, each: _Subscriber, room: int) -> bool:
        """Tell how much was lost, if that and ``room`` bytes more fit; False if not."""
        gap = line({"stream": "lost", "count": each.lost})
        server = self._control.server
        if server is None or len(gap) + room > each.client.room:
            return False
        each.lost = 0
        return server.send(each.client, gap)

    def _tell(self, kind: str, said: dict[str, Any]) -> None:
        server = self._control.server
        if server is None or self._telling:
            return
        self._telling = True
        try:
            data = line({"stream": kind, "time": round(time.time(), 6), **said})
            for each in list(self._subscribers.values()):
                if kind not in each.kinds:
                    continue
                told = not each.lost or self._gap_told(each, len(data))
                if not told or not server.send(each.client, data):
                    each.lost += 1
                    self._tell_gaps_later()
        finally:
            self._telling = False
