"""The mptcp_pm family's 10 events: bytes to values.

Knows the event attributes of linux/mptcp_pm.h; must not know connections or plugins. Ports of
events are in *network* order, all other integers in host order.

``parse`` is the one entrance: known shapes take the compiled layout, all others ``parse_plain``,
which is also the oracle that the tests hold the compiled form to.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple

from mptcpd.nl import attrs, genl
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import ORDER, Layouts
from mptcpd.nl.errors import DecodeError


class Event(NamedTuple):
    """One event. A field whose attribute was not sent is None; zero is zero.

    kind          MPTCP_EVENT_*
    token         names the connection (u32); None for listener events
    local_ip      4 or 16 bytes in network order, from MPTCP_ATTR_SADDR4 or SADDR6
    local_port    host order, from MPTCP_ATTR_SPORT; remote_ip, remote_port: from DADDR*, DPORT
    local_id      address IDs, 0 for the first subflow; remote_id likewise
    backup        0 or 1                  error        errno as the socket had it
    flags         MPTCP_PM_EV_FLAG_*      timeout      milliseconds (no event of Linux 6.18 has it)
    ifindex       only for a subflow that is bound to a device
    reset_reason  MPTCP_RST_E* (RFC 8684, 3.6); reset_flags: the MP_TCPRST option's flags
    server_side   1 where the peer connected to us
    """

    kind: int
    token: int | None = None
    family: int | None = None
    local_id: int | None = None
    remote_id: int | None = None
    local_ip: bytes | None = None
    remote_ip: bytes | None = None
    local_port: int | None = None
    remote_port: int | None = None
    backup: int | None = None
    error: int | None = None
    flags: int | None = None
    timeout: int | None = None
    ifindex: int | None = None
    reset_reason: int | None = None
    reset_flags: int | None = None
    server_side: int | None = None

    @property
    def name(self) -> str:
        """The kernel's name of the event, or ``MPTCP_EVENT 99`` for one we do not know."""
        return EVENTS.get(self.kind, f"MPTCP_EVENT {self.kind}")


EVENTS = {
    getattr(u, name): name for name in sorted(vars(u)) if name.startswith("MPTCP_EVENT_")
}

# Attribute, its name, the field of Event that holds it, the form of its payload.
_TABLE: tuple[tuple[int, str, str, str], ...] = (
    (u.MPTCP_ATTR_TOKEN, "MPTCP_ATTR_TOKEN", "token", "u32"),
    (u.MPTCP_ATTR_FAMILY, "MPTCP_ATTR_FAMILY", "family", "u16"),
    (u.MPTCP_ATTR_LOC_ID, "MPTCP_ATTR_LOC_ID", "local_id", "u8"),
    (u.MPTCP_ATTR_REM_ID, "MPTCP_ATTR_REM_ID", "remote_id", "u8"),
    (u.MPTCP_ATTR_SADDR4, "MPTCP_ATTR_SADDR4", "local_ip", "ip4"),
    (u.MPTCP_ATTR_SADDR6, "MPTCP_ATTR_SADDR6", "local_ip", "ip6"),
    (u.MPTCP_ATTR_DADDR4, "MPTCP_ATTR_DADDR4", "remote_ip", "ip4"),
    (u.MPTCP_ATTR_DADDR6, "MPTCP_ATTR_DADDR6", "remote_ip", "ip6"),
    (u.MPTCP_ATTR_SPORT, "MPTCP_ATTR_SPORT", "local_port", "be16"),
    (u.MPTCP_ATTR_DPORT, "MPTCP_ATTR_DPORT", "remote_port", "be16"),
    (u.MPTCP_ATTR_BACKUP, "MPTCP_ATTR_BACKUP", "backup", "u8"),
    (u.MPTCP_ATTR_ERROR, "MPTCP_ATTR_ERROR", "error", "u8"),
    (u.MPTCP_ATTR_FLAGS, "MPTCP_ATTR_FLAGS", "flags", "u16"),
    (u.MPTCP_ATTR_TIMEOUT, "MPTCP_ATTR_TIMEOUT", "timeout", "u32"),
    (u.MPTCP_ATTR_IF_IDX, "MPTCP_ATTR_IF_IDX", "ifindex", "u32"),
    (u.MPTCP_ATTR_RESET_REASON, "MPTCP_ATTR_RESET_REASON", "reset_reason", "u32"),
    (u.MPTCP_ATTR_RESET_FLAGS, "MPTCP_ATTR_RESET_FLAGS", "reset_flags", "u32"),
    (u.MPTCP_ATTR_SERVER_SIDE, "MPTCP_ATTR_SERVER_SIDE", "server_side", "u8"),
)

# Fields that an event cannot do without (net/mptcp/pm_netlink.c: mptcp_event_*).
_PAIR = ("local_ip", "remote_ip", "local_port", "remote_port")
REQUIRED: dict[int, tuple[str, ...]] = {
    u.MPTCP_EVENT_CREATED: ("token", *_PAIR),
    u.MPTCP_EVENT_ESTABLISHED: ("token", *_PAIR),
    u.MPTCP_EVENT_CLOSED: ("token",),
    u.MPTCP_EVENT_ANNOUNCED: ("token", "remote_id", "remote_ip"),
    u.MPTCP_EVENT_REMOVED: ("token", "remote_id"),
    u.MPTCP_EVENT_SUB_ESTABLISHED: ("token", *_PAIR, "backup"),
    u.MPTCP_EVENT_SUB_CLOSED: ("token", *_PAIR, "backup"),
    u.MPTCP_EVENT_SUB_PRIORITY: ("token", *_PAIR, "backup"),
    u.MPTCP_EVENT_LISTENER_CREATED: ("local_ip", "local_port"),
    u.MPTCP_EVENT_LISTENER_CLOSED: ("local_ip", "local_port"),
}

# The events that tell of connections, not of listeners.
OF_CONNECTIONS = frozenset(kind for kind, fields in REQUIRED.items() if "token" in fields)

_READERS: dict[str, Callable[[str, bytes], int | bytes]] = {
    "u8": attrs.u8,
    "u16": attrs.u16,
    "u32": attrs.u32,
    "be16": attrs.be16,
    "ip4": lambda name, payload: attrs.ip(name, payload, 4),
    "ip6": lambda name, payload: attrs.ip(name, payload, 16),
}
_FORMATS = {"u8": "B", "u16": "H", "u32": "I", "be16": "2s", "ip4": "4s", "ip6": "16s"}
_ATTRIBUTES = {kind: (name, field, _READERS[form]) for kind, name, field, form in _TABLE}
_FIRST = Event._fields.index("token")  # the layout's positions are those of Event behind ``kind``
_BE16 = Struct(">H").unpack
_NEW: Callable[[type[Event], tuple[Any, ...]], Event] = tuple.__new__
_LOCAL_PORT = Event._fields.index("local_port") - _FIRST
_REMOTE_PORT = Event._fields.index("remote_port") - _FIRST
_LAYOUTS = Layouts(
    {k: (Event._fields.index(field) - _FIRST, _FORMATS[form]) for k, _, field, form in _TABLE},
    width=len(Event._fields) - _FIRST,
)
# The same shapes, read for ``opened`` alone.
_OPENED = ("local_ip", "local_port", "remote_ip", "remote_port", "flags", "server_side")
_OPENED_LAYOUTS = Layouts(
    {
        k: (_OPENED.index(field) if field in _OPENED else None, _FORMATS[form])
        for k, _, field, form in _TABLE
    },
    width=len(_OPENED),
)


def parse(payload: bytes) -> Event:
    """An event from what lies behind its nlmsghdr: genlmsghdr and attributes.

    An attribute that we do not know is skipped; so is nothing else: ``unknown`` names them. An
    event of a kind that we do not know is returned with what could be read of it.
    Errors  DecodeError: no header, malformed attributes, a scalar of another length than its own,
            a required attribute missing.
    """
    kind = genl.command(payload)
    event = parse_known(kind, payload, genl.HEADER, len(payload) - genl.HEADER)
    if event is None:
        event = parse_plain(payload)
        _LAYOUTS.learn(kind, payload[genl.HEADER :])
        if kind == u.MPTCP_EVENT_CREATED:
            _OPENED_LAYOUTS.learn(kind, payload[genl.HEADER :])
    return event


def parse_known(
    kind: int, buffer: bytes | memoryview, start: int, length: int
) -> Event | None:
    """An event of a shape that was seen before, from ``length`` bytes of attributes in a buffer.

    None for any other shape: ``parse`` decides about it, and remembers it.
    """
    known = _LAYOUTS.unpack_at(kind, buffer, start, length)
    if known is None:
        return None
    local_port, remote_port = known[_LOCAL_PORT], known[_REMOTE_PORT]
    # Not Event._make, which checks the length again: 0.2 us.
    return _NEW(
        Event,
        (
            kind,
            *known[:_LOCAL_PORT],
            None if local_port is None else _BE16(local_port)[0],
            None if remote_port is None else _BE16(remote_port)[0],
            *known[_REMOTE_PORT + 1 :],
        ),
    )


def matcher() -> Callable[[int, bytes | memoryview, int, int], bool]:
    """What tells, called as ``parse_known``, whether that would return an event, without the work
    of making one. To be used for a batch; not to be kept."""
    return _LAYOUTS.match_at


def opened(
    kind: int, buffer: bytes | memoryview, start: int, length: int
) -> tuple[bytes, int | None, int | None] | None:
    """What CREATED says besides the token, as ``parse_known``: path, flags, server_side.

    The path is local IP, local port, remote IP, remote port, all in network order, in 12 or 36
    bytes, as they lie in the message. 0.7 us instead of 1.5 for an Event, measured.
    """
    known = _OPENED_LAYOUTS.unpack_at(kind, buffer, start, length)
    if known is None:
        return None
    local_ip, local_port, remote_ip, remote_port, flags, server_side = known
    return local_ip + local_port + remote_ip + remote_port, flags, server_side


def parse_plain(payload: bytes) -> Event:
    """As ``parse``, attribute by attribute."""
    kind = genl.command(payload)
    values: dict[str, int | bytes] = {}
    for attribute, data in attrs.split(payload, genl.HEADER):
        if attribute in _ATTRIBUTES:
            name, field, reader = _ATTRIBUTES[attribute]
            values[field] = reader(name, data)
    missing = [field for field in REQUIRED.get(kind, ()) if field not in values]
    if missing:
        raise DecodeError(
            f"Required {EVENTS[kind]} message attributes are missing: {', '.join(missing)}"
        )
    return Event(kind, **values)  # type: ignore[arg-type]


def unknown(payload: bytes) -> list[int]:
    """Types of the attributes of a well-formed event that we do not know, each once."""
    found = attrs.parse(payload, genl.HEADER)
    return [kind for kind in found if kind not in _ATTRIBUTES]


def build(event: Event) -> bytes:
    """The inverse of ``parse``, attributes in the order of their numbers: for tests and fakes.

    Errors  ValueError for a field that does not fit its attribute.
    """
    sizes = {"u8": 1, "u16": 2, "u32": 4, "be16": 2}
    parts: list[tuple[int, bytes]] = []
    for kind, name, field, form in _TABLE:
        value = getattr(event, field)
        if value is None:
            continue
        if form in ("ip4", "ip6"):
            if len(value) not in (4, 16):
                raise ValueError(f"{name}: an IP address has 4 or 16 bytes, not {len(value)}")
            if len(value) == (4 if form == "ip4" else 16):
                parts.append((kind, value))
            continue
        try:
            order = "big" if form == "be16" else ORDER
            parts.append((kind, value.to_bytes(sizes[form], order)))
        except OverflowError as error:
            raise ValueError(f"{name} = {value}: {error}") from None
    return genl.header(event.kind, u.MPTCP_PM_VER) + attrs.build(parts)
