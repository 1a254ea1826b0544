"""Events of the kernel, or what two looks differ in, as words for a time line.

Knows which events are worth a mark; must not know how they are drawn.
"""

from __future__ import annotations

import os

from mptcpd.cli.ctl.ends import end_text
from mptcpd.cli.ctl.rates import Change
from mptcpd.cli.ctl.recording import Happening
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp_event import Event

# The kind of Happening, and how it is told of.
_WORDS = {
    u.MPTCP_EVENT_CREATED: ("appears", "connection created"),
    u.MPTCP_EVENT_ESTABLISHED: ("appears", "connection established"),
    u.MPTCP_EVENT_CLOSED: ("ends", "connection closed"),
    u.MPTCP_EVENT_ANNOUNCED: ("other", "peer announced"),
    u.MPTCP_EVENT_REMOVED: ("other", "peer removed address"),
    u.MPTCP_EVENT_SUB_ESTABLISHED: ("appears", "subflow established"),
    u.MPTCP_EVENT_SUB_CLOSED: ("ends", "subflow closed"),
    u.MPTCP_EVENT_SUB_PRIORITY: ("other", "peer changed priority"),
}
_CHANGES = {
    "created": ("appears", "connection created"),
    "closed": ("ends", "connection closed"),
    "established": ("appears", "subflow established"),
    "subflow closed": ("ends", "subflow closed"),
    "backup": ("other", "we asked for backup priority of"),
    "no backup": ("other", "we asked for usual priority of"),
    "backup by peer": ("other", "peer asked for backup priority of"),
    "no backup by peer": ("other", "peer asked for usual priority of"),
}


def of_event(event: Event, time: float) -> Happening | None:
    """None for an event that is of no connection."""
    if event.token is None or event.kind not in _WORDS:
        return None
    kind, text = _WORDS[event.kind]
    if event.kind == u.MPTCP_EVENT_ANNOUNCED and event.remote_ip is not None:
        text += f" {end_text(event.remote_ip, event.remote_port or 0)}".removesuffix(":0")
    if event.kind in (u.MPTCP_EVENT_ANNOUNCED, u.MPTCP_EVENT_REMOVED):
        text += f" (id {event.remote_id})"
    elif event.kind not in (u.MPTCP_EVENT_CLOSED, u.MPTCP_EVENT_ESTABLISHED):
        text += _path(event)
    if event.error:
        kind, text = "fails", f"{text}: {os.strerror(event.error)}"
    if event.kind == u.MPTCP_EVENT_SUB_PRIORITY:
        text += ": backup" if event.backup else ": no backup"
    elif event.backup:
        text += " (backup)"
    return Happening(time, kind, event.token, text)


def of_change(change: Change, start: float) -> Happening:
    """What a look noticed, where events are not told to us."""
    kind, text = _CHANGES[change.kind]
    if change.subflow is not None:
        path = change.subflow.path
        text += f" {end_text(path.local_ip, path.local_port)}"
        text += f" \u2192 {end_text(path.remote_ip, path.remote_port)}"
    return Happening(change.time - start, kind, change.token, text)


def of_interface(name: str, running: bool, time: float) -> Happening:
    """A cable was pulled or plugged in, or the like."""
    if running:
        return Happening(time, "appears", None, f"{name} can be used again")
    return Happening(time, "fails", None, f"{name} is down or has no carrier")


def _path(event: Event) -> str:
    local_ip, remote_ip = event.local_ip, event.remote_ip
    if local_ip is None or remote_ip is None:
        return ""
    local = end_text(local_ip, event.local_port or 0)
    return f" {local} \u2192 {end_text(remote_ip, event.remote_port or 0)}"
