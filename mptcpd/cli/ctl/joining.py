"""subflow create --wait: what becomes of a subflow that was asked for.

Knows which event answers the request; must not know what the user may say. The kernel's yes to the
command means only that it sent a SYN.
"""

from __future__ import annotations

import os
import time

from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.ending import Ending
from mptcpd.cli.ctl.errors import REFUSED, Failure
from mptcpd.cli.ctl.event_text import EventText
from mptcpd.cli.ctl.monitor import subscribe
from mptcpd.cli.ctl.steer import plain
from mptcpd.nl import uapi as u
from mptcpd.nl.client import MptcpClient
from mptcpd.nl.diag_client import DiagClient
from mptcpd.nl.errors import DecodeError, Overrun
from mptcpd.nl.mptcp import Address
from mptcpd.nl.mptcp_event import Event
from mptcpd.nl.mptcp_reader import EventReader
from mptcpd.nl.sock import CommandSocket

PATIENCE = 10.0  # seconds, if the user named none
# RFC 8684, 3.6
_RESET = {
    1: "MPTCP-specific error",
    2: "lack of resources",
    3: "administratively prohibited",
    4: "too much outstanding data",
    5: "unacceptable performance",
    6: "middlebox interference",
}
_KINDS = [u.MPTCP_EVENT_SUB_ESTABLISHED, u.MPTCP_EVENT_SUB_CLOSED, u.MPTCP_EVENT_CLOSED]


def create(
    call: Call, kernel: MptcpClient, token: int, local: Address, remote: Address, seconds: float
) -> int:
    """Ask for the subflow and wait. Prints its event. Errors: Failure, which says why not."""
    wanted = plain(local.ip or b""), plain(remote.ip or b""), remote.port
    subflows = DiagClient(CommandSocket(u.NETLINK_SOCK_DIAG)).subflows()
    # A subflow between the same two addresses may be there, and end just now.
    older = {subflow.path.local_port for subflow in subflows if subflow.token == token}
    answers: list[Event] = []

    def take(event: Event) -> None:
        if event.token != token:
            return
        path = plain(event.local_ip or b""), plain(event.remote_ip or b""), event.remote_port
        closed = event.kind == u.MPTCP_EVENT_CLOSED
        if closed or (path == wanted and event.local_port not in older):
            answers.append(event)

    with Ending() as ending:
        queue = subscribe(kernel, _KINDS)
        ending.watch(queue.fileno())
        reader = EventReader(queue, kernel.family.id)
        kernel.subflow_create(token, local, remote)
        deadline = time.monotonic() + seconds
        while not answers:
            try:
                more = reader.receive(take, _malformed)
            except Overrun:
                raise Failure("Error: the kernel dropped events; what became of the subflow is "
                              "unknown.", REFUSED) from None  # fmt: skip
            left = deadline - time.monotonic()
            if ending.came or (not more and left <= 0):
                what = "interrupted" if ending.came else f"no answer within {seconds:g} s"
                raise Failure(f"Error: {what}; the kernel goes on trying.", REFUSED)
            if not more:
                ending.wait(left)
    event = answers[0]
    if event.kind != u.MPTCP_EVENT_SUB_ESTABLISHED:
        raise Failure(f"Error: the subflow was not established: {_why(event)}.", REFUSED)
    call.out.line(EventText(call.out)(event))
    return 0


def _why(event: Event) -> str:
    if event.kind == u.MPTCP_EVENT_CLOSED:
        return "the connection was closed"
    why = os.strerror(event.error) if event.error else "it was closed"
    if event.reset_reason is not None:
        reason = _RESET.get(event.reset_reason, f"reason {event.reset_reason}")
        why += f" (reset by the peer: {reason if event.reset_reason else 'no reason given'})"
    return why


def _malformed(error: DecodeError) -> None:
    raise Failure(f"Error: an event cannot be read: {error}.", REFUSED)
