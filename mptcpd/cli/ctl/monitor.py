"""monitor: prints the kernel's MPTCP events as they happen.

Knows the socket, its queue and its end; must not know how an event looks (``event_text``). The
kernel is subscribed to before the first byte of output, so whoever has seen one misses nothing.
"""

from __future__ import annotations

import os

from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.ending import Ending
from mptcpd.cli.ctl.endpoint import client
from mptcpd.cli.ctl.errors import Failure
from mptcpd.cli.ctl.event_text import EventText
from mptcpd.nl import bpf
from mptcpd.nl import uapi as u
from mptcpd.nl.client import MptcpClient
from mptcpd.nl.errors import DecodeError, Overrun
from mptcpd.nl.mptcp_event import Event
from mptcpd.nl.mptcp_reader import EventReader
from mptcpd.nl.sock import EventSocket

# Bytes that may wait for us in the kernel: about 80,000 events, which is a second of what two cores
# can make of them.
_QUEUE = 64 << 20
_LAST = 2000  # batches that are still read after somebody ended it
_QUEUES = "/proc/self/net/netlink"


def run(call: Call) -> int:
    """Print events until SIGINT or SIGTERM. Errors: Failure without the right to subscribe."""
    token: int | None = call.args.get("token")
    kinds: list[int] | None = call.args.get("event")
    out, settings = call.out, call.settings
    text = EventText(out)
    listed = settings.json and not settings.oneline
    before, between = ("[ " if settings.pretty else "[", ",") if listed else ("", "")
    after = "" if listed else "\n" if settings.json or not settings.oneline else "\\"
    printed = False

    def take(event: Event) -> None:
        nonlocal printed
        if token is None or event.token == token:
            out.write(f"{between if printed else ''}{text(event)}{after}")
            printed = True

    with Ending() as ending:
        kernel = client()
        queue = subscribe(kernel, kinds)
        ending.watch(queue.fileno())
        reader = EventReader(queue, kernel.family.id)
        losses = Losses(queue.portid)
        out.write(before)
        out.flush()
        left = _LAST
        while left:
            try:
                more = reader.receive(take, malformed)
            except Overrun:
                losses.happened = True
                continue
            out.flush()
            if not more:
                losses.tell()  # only now: the kernel goes on dropping until all has been read
                if ending.came:
                    break
                ending.wait()
            elif ending.came:
                left -= 1
    if listed:
        out.write((" ]" if settings.pretty and printed else "]") + "\n")
    return 0


def subscribe(kernel: MptcpClient, kinds: list[int] | None = None) -> EventSocket:
    """A socket that gets events, of these kinds (MPTCP_EVENT_*) or of all. Errors: Failure."""
    group = kernel.events_group
    queue = EventSocket(u.NETLINK_GENERIC, receive_buffer=_QUEUE, slots=128, size=2048)
    if kinds is not None:
        queue.filter(bpf.commands(kinds))
    try:
        queue.join(group)
    except PermissionError as error:
        queue.close()
        raise Failure(f"can't subscribe to mptcp events: {error.strerror}") from None
    return queue


def malformed(error: DecodeError) -> None:
    _warn(f"an event cannot be read: {error}")


class Losses:
    """Tells of events that the kernel dropped because our queue was full.

    happened  set when the kernel has said so
    """

    def __init__(self, portid: int) -> None:
        self._portid = str(portid)
        self._told = 0
        self.happened = False

    def tell(self) -> None:
        """Say how many there were since the last time, if there were any."""
        if not self.happened:
            return
        self.happened = False
        count = self.count()
        if count is None:
            _warn("events were lost: the kernel's queue for them was full")
        elif count > self._told:
            _warn(f"{count - self._told} events were lost: the kernel's queue for them was full")
            self._told = count

    def count(self) -> int | None:
        """How many messages the kernel has dropped for our socket, None if it does not say.

        Source  net/netlink/af_netlink.c: netlink_native_seq_show; "Eth" is the protocol, "Pid" the
                port ID.
        """
        try:
            with open(_QUEUES, encoding="ascii") as stream:
                names = stream.readline().split()
                for line in stream:
                    row = dict(zip(names, line.split(), strict=False))
                    if (row["Eth"], row["Pid"]) == (str(u.NETLINK_GENERIC), self._portid):
                        return int(row["Drops"])
        except (OSError, KeyError, ValueError):
            pass  # then the number is not told, but the loss is
        return None


def _warn(text: str) -> None:
    os.write(2, f"Error: {text}\n".encode())
