"""Events as lines and as JSON objects, as ``ip mptcp monitor`` prints them.

Knows the names and the order of fields; must not know where events come from. The kernel sends few
distinct shapes; each becomes one %-template.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any, NamedTuple

from mptcpd.cli.ctl.endpoint import interface_name, shown_ip
from mptcpd.cli.ctl.output import Output, dump
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp_event import Event

NAMES = {
    u.MPTCP_EVENT_CREATED: "CREATED",
    u.MPTCP_EVENT_ESTABLISHED: "ESTABLISHED",
    u.MPTCP_EVENT_CLOSED: "CLOSED",
    u.MPTCP_EVENT_ANNOUNCED: "ANNOUNCED",
    u.MPTCP_EVENT_REMOVED: "REMOVED",
    u.MPTCP_EVENT_SUB_ESTABLISHED: "SF_ESTABLISHED",
    u.MPTCP_EVENT_SUB_CLOSED: "SF_CLOSED",
    u.MPTCP_EVENT_SUB_PRIORITY: "SF_PRIO",
    u.MPTCP_EVENT_LISTENER_CREATED: "LISTENER_CREATED",
    u.MPTCP_EVENT_LISTENER_CLOSED: "LISTENER_CLOSED",
}


class _Form(NamedTuple):
    """A field of Event: its name in the output, and how text and JSON have its value.

    Addresses and interfaces are put in as text that was made before: "4=10.0.0.1", "3 dev=eth0".
    """

    field: str
    name: str
    text: str = "=%d"
    json: str = "%d"


_FORMS = (
    _Form("token", "token", "=%08x", '"0x%x"'),
    _Form("remote_id", "remid"),
    _Form("local_id", "locid"),
    _Form("local_ip", "saddr", "%s", "%s"),
    _Form("remote_ip", "daddr", "%s", "%s"),
    _Form("local_port", "sport"),
    _Form("remote_port", "dport"),
    _Form("backup", "backup"),
    _Form("error", "error"),
    _Form("timeout", "timeout"),
    _Form("ifindex", "ifindex", "=%s", "%s"),
    _Form("reset_reason", "reset_reason"),
    _Form("reset_flags", "reset_flags", "=%s", '"%s"'),
)
_AT = {name: place for place, name in enumerate(Event._fields)}
_LOCAL_IP, _REMOTE_IP, _IFINDEX = _AT["local_ip"], _AT["remote_ip"], _AT["ifindex"]
_RESET_FLAGS, _FLAGS, _SERVER = _AT["reset_flags"], _AT["flags"], _AT["server_side"]
_MOST = 8192  # addresses and shapes remembered


class _Ips(dict[bytes | None, str | None]):
    """IP to what stands behind "saddr" or "daddr"; remembers, for looking it up costs 1 us."""

    def __init__(self, make: Callable[[str, str, str], str]) -> None:
        self._make = make

    def __missing__(self, ip: bytes | None) -> str | None:
        if len(self) >= _MOST:
            self.clear()
        text = None if ip is None else self._make("4" if len(ip) == 4 else "6", *shown_ip(ip))
        self[ip] = text
        return text


class EventText:
    """Turns an event into its line, or with -j into its JSON object, without what separates them.

    stamp  says what time it is, in microseconds since 1970
    """

    def __init__(self, out: Output, stamp: Callable[[], int] | None = None) -> None:
        self._out = out
        settings = out.settings
        self._json = settings.json
        self._pretty = settings.json and settings.pretty and not settings.oneline
        self._shapes: dict[object, tuple[str, Callable[[list[Any]], Any]]] = {}
        self._ips = _Ips(
            (lambda version, text, _colour: f'{version}":{" " * self._pretty}"{text}"')
            if self._json
            else (lambda version, text, colour: f"{version}={out.paint(colour, text)}")
        )
        self._clock = stamp or (lambda: time.time_ns() // 1000)
        self._second, self._said = -1, ""

    def __call__(self, event: Event) -> str:
        values: list[Any] = list(event)
        key = (event[0], values[_FLAGS], values[_SERVER], *map(type, values))
        known = self._shapes.get(key)
        if known is None:
            if len(self._shapes) >= _MOST:
                self._shapes.clear()
            known = self._shapes[key] = self._shape(event)
        ips = self._ips
        values[_LOCAL_IP] = ips[values[_LOCAL_IP]]
        values[_REMOTE_IP] = ips[values[_REMOTE_IP]]
        if values[_IFINDEX] is not None:
            values[_IFINDEX] = self._interface(values[_IFINDEX])
        if values[_RESET_FLAGS] is not None:
            # C's %#x has no 0x before a zero.
            values[_RESET_FLAGS] = f"{values[_RESET_FLAGS]:#x}" if values[_RESET_FLAGS] else "0"
        template, wanted = known
        text = template % wanted(values)
        return self._stamped(text) if self._out.settings.stamp else text

    def _shape(self, event: Event) -> tuple[str, Callable[[list[Any]], Any]]:
        """A template for events that are like this one, and what takes its values out of one."""
        forms = [form for form in _FORMS if getattr(event, form.field) is not None]
        flags = event.flags or 0
        words = []
        if event.server_side or flags & u.MPTCP_PM_EV_FLAG_SERVER_SIDE:
            words.append("server_side")
        if flags & u.MPTCP_PM_EV_FLAG_DENY_JOIN_ID0:
            words.append("deny_join_id0")
        left = flags & ~(u.MPTCP_PM_EV_FLAG_SERVER_SIDE | u.MPTCP_PM_EV_FLAG_DENY_JOIN_ID0)
        name = NAMES.get(event.kind, f"UNKNOWN {event.kind}")
        if self._json:
            blank = " " * self._pretty
            items = [f'"event":{blank}"{name}"']
            for form in forms:
                # The name of an address is not over before its version: see _Ips.
                quote = "" if form.field in ("local_ip", "remote_ip") else f'":{blank}'
                items.append(f'"{form.name}{quote}{form.json}')
            items += [f'"{word}":{blank}true' for word in words]
            items += [f'"flags":{blank}"{left:#x}"'] * bool(left)
            template = self._object(items)
        else:
            parts = [f" {form.name}{form.text}" for form in forms]
            parts += [f" {word}" for word in words]
            parts += [f" flags={left:#x}"] * bool(left)
            template = f"[{name:>16}]" + "".join(parts)
        places = [_AT[form.field] for form in forms]
        if len(places) > 1:
            return template, itemgetter(*places)
        return template, lambda values: tuple(values[place] for place in places)

    def _object(self, items: Iterable[str]) -> str:
        if not self._pretty:
            return "{" + ",".join(items) + "}"
        return "{" + ",".join(f"\n        {item}" for item in items) + "\n    }"

    def _interface(self, ifindex: int) -> str:
        name = interface_name(ifindex)
        if not self._json:
            return f"{ifindex} dev={self._out.paint('interface', name)}"
        start = "\n        " if self._pretty else ""
        return f'{ifindex},{start}"dev":{" " * self._pretty}{dump(name)}'

    def _stamped(self, text: str) -> str:
        """The text with the time in it, or before it."""
        second, micro = divmod(self._clock(), 1_000_000)
        short = self._out.settings.stamp == "short"
        if second != self._second:
            form = "%Y-%m-%dT%H:%M:%S" if short else "%a %b %e %H:%M:%S %Y"
            self._second, self._said = second, time.strftime(form, time.localtime(second))
        stamp = f"{self._said}.{micro:06}" if short else f"{self._said} {micro} usec"
        if not self._json:
            return f"[{stamp}] {text}" if short else f"Timestamp: {stamp}\n{text}"
        key = "timestamp_short" if short else "timestamp"
        item = f'"{key}":{" " * self._pretty}"{stamp}"'
        if self._pretty:
            return text.replace('"event"', f'{item},\n        "event"', 1)
        return f"{{{item},{text[1:]}"
