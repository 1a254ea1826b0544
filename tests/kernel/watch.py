"""Watches what a host's kernel tells, one message at a time and in order."""

from __future__ import annotations

import select
import time
from typing import Generic, TypeVar

import pytest

from lab import Host, traffic
from mptcpd.nl import messages, mptcp_event, rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp_event import Event
from mptcpd.nl.sock import EventSocket

PATIENCE = 5.0  # seconds that a message may take which must come
Told = TypeVar("Told")


class Watch(Generic[Told]):
    """What an event socket receives, parsed."""

    def __init__(self, host: Host, protocol: int, *groups: int, receive_buffer: int = 1 << 20):
        with host:
            self.socket = EventSocket(protocol, groups, receive_buffer=receive_buffer)
        self._waiting: list[Told] = []

    def next(self) -> Told:
        """The next one. Errors: TimeoutError; Overrun."""
        deadline = time.monotonic() + PATIENCE
        while not self._waiting:
            if not select.select([self.socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"nothing within {PATIENCE:g} s")
            self._waiting += self._parsed()
        return self._waiting.pop(0)

    def forget(self) -> None:
        """Drop what has come so far."""
        self._waiting.clear()
        while self._parsed():
            pass

    def close(self) -> None:
        self.socket.close()

    def _parsed(self) -> list[Told]:
        return [
            self.parse(message)
            for datagram in self.socket.receive()
            for message in messages.split(datagram)
        ]

    def parse(self, message: messages.Message) -> Told:
        raise NotImplementedError


class EventWatch(Watch[Event]):
    """The events of MPTCP on a host."""

    def __init__(self, host: Host, receive_buffer: int = 1 << 20) -> None:
        super().__init__(
            host, u.NETLINK_GENERIC, host.mptcp.events_group, receive_buffer=receive_buffer
        )
        self._host = host

    def parse(self, message: messages.Message) -> Event:
        return mptcp_event.parse(message.payload)

    def find(self, kind: int) -> Event:
        """The next event of this kind; those before it are dropped."""
        while (event := self.next()).kind != kind:
            pass
        return event

    def so_far(self) -> list[Event]:
        """All that came until now: up to the events of a listener that is opened as a mark."""
        with traffic.listen(self._host, "127.0.0.1") as mark:
            port = mark.getsockname()[1]
        found: list[Event] = []
        for kind in (u.MPTCP_EVENT_LISTENER_CREATED, u.MPTCP_EVENT_LISTENER_CLOSED):
            while ((event := self.next()).kind, event.local_port) != (kind, port):
                found.append(event)
        return found


class RouteWatch(Watch["rtnl.Link | rtnl.Address | rtnl.Route | None"]):
    """Links, addresses and routes of a host."""

    def __init__(self, host: Host, *groups: int) -> None:
        super().__init__(host, u.NETLINK_ROUTE, *groups)

    def parse(self, message: messages.Message) -> rtnl.Link | rtnl.Address | rtnl.Route | None:
        return rtnl.parse(message.type, message.payload)


def use_userspace_pm(host: Host) -> None:
    """New connections of this host are for a userspace path manager; skips where there is none."""
    # pm_type is the older name (Linux 5.19), path_manager the newer (6.15).
    for name, value in (("path_manager", "userspace"), ("pm_type", "1")):
        try:
            host.set_sysctl(f"net.mptcp.{name}", value)
        except FileNotFoundError:
            continue
        return
    pytest.skip("this kernel has no userspace path manager for MPTCP (Linux 5.19)")
