"""Events of MPTCP in the words of the control socket.

Knows the fields of an event; must not know who is told.
"""

from __future__ import annotations

from typing import Any

from mptcpd.core.address import from_packed
from mptcpd.nl.mptcp_event import EVENTS, Event

_PREFIX = "MPTCP_EVENT_"


def event_name(kind: int) -> str:
    """``created`` for MPTCP_EVENT_CREATED, ``event-99`` for one that we do not know."""
    return EVENTS.get(kind, f"event-{kind}").removeprefix(_PREFIX).lower()


def event_fields(event: Event) -> dict[str, Any]:
    """What an event says, as far as it was sent, in the words of the other answers."""
    said: dict[str, Any] = {}
    if event.token is not None:
        said["token"] = f"{event.token:08x}"
    for name, ip, port in (
        ("local", event.local_ip, event.local_port),
        ("remote", event.remote_ip, event.remote_port),
    ):
        if ip is not None:
            said[name] = str(from_packed(ip, port or 0))
    for name in ("local_id", "remote_id", "error", "ifindex", "reset_reason", "reset_flags"):
        value = getattr(event, name)
        if value is not None:
            said[name] = value
    for name in ("backup", "server_side"):
        value = getattr(event, name)
        if value is not None:
            said[name] = bool(value)
    return said
