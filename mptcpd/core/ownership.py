"""Which endpoints are this daemon's, over restarts: only those are changed or deleted.

Knows how ownership is written down and read again; must not know files (a Store keeps the text) nor
commands. An endpoint is written down before the kernel is asked for it and struck out after it was
deleted, so a crash in between leaves a note about nothing, never an endpoint that nobody owns.

Shape of the text, one thing a line:

    mptcpd 1
    found ADD_ADDR_ACCEPTED SUBFLOWS           limits as others left them
    set ADD_ADDR_ACCEPTED SUBFLOWS             limits as we set them last
    endpoint ADDRESS PORT ID IFINDEX FLAGS     IFINDEX 0: any; FLAGS: names with commas, or -
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import NamedTuple, Protocol

from mptcpd.core.address import SockAddr
from mptcpd.nl.mptcp import FLAGS, Limits

_LOG = logging.getLogger("mptcpd")
_HEAD = "mptcpd 1"


class Endpoint(NamedTuple):
    """An endpoint of the kernel's own path manager.

    address  with its port, 0 if it has none      id       address ID
    flags    names, in the kernel's order          ifindex  None means any interface
    """

    address: SockAddr
    id: int
    flags: tuple[str, ...]
    ifindex: int | None


class Store(Protocol):
    """Where the text is kept."""

    def load(self) -> str:
        """What was saved last; empty if nothing was."""

    def save(self, text: str) -> None:
        """Replace it; empty: keep nothing. Must not raise: who cannot keep it says so, once."""


class Forgetful:
    """A Store that keeps nothing: every start begins anew."""

    def load(self) -> str:
        return ""

    def save(self, text: str) -> None:
        pass


class Ownership:
    """What this daemon added to the kernel, now or before a restart.

    owned      ID -> Endpoint, all of ours
    inherited  ID -> Endpoint, those of an earlier run that nobody has claimed yet
    found      the limits as others left them, before or since we first changed them
    set        the limits that are in force unless others changed them since
    """

    def __init__(self, store: Store, present: Iterable[Endpoint], limits: Limits) -> None:
        """``present``: the endpoints that the kernel has now; ``limits``: those in force."""
        self._store = store
        noted = read(store.load())
        places = {(note.address, note.id, note.ifindex) for note in noted.endpoints}
        self.inherited = {
            endpoint.id: endpoint
            for endpoint in present
            if (endpoint.address, endpoint.id, endpoint.ifindex) in places
        }
        self.owned = dict(self.inherited)
        self.found = limits
        self.set = limits
        if noted.found is not None and noted.set == limits:
            self.found = noted.found

    def limits_seen(self, limits: Limits) -> None:
        """These limits are in force: if they are not as we set them, they are somebody else's."""
        if limits != self.set:
            self.found = self.set = limits
            self._save()

    def limits_set(self, limits: Limits) -> None:
        """We have set these limits."""
        if limits != self.set:
            self.set = limits
            self._save()

    def note(self, endpoint: Endpoint) -> None:
        """This endpoint is ours, or is about to be."""
        self.owned[endpoint.id] = endpoint
        self.inherited.pop(endpoint.id, None)
        self._save()

    def strike(self, ident: int) -> None:
        """The endpoint with this ID is gone, or was refused; nothing happens if it is not ours."""
        self.inherited.pop(ident, None)
        if self.owned.pop(ident, None) is not None:
            self._save()

    def orphan(self, idents: Iterable[int]) -> None:
        """Who wanted those of these endpoints that are ours is gone: they wait to be claimed, as
        if they were of an earlier run."""
        self.inherited.update({ident: self.owned[ident] for ident in idents if ident in self.owned})

    def clear(self) -> None:
        """All endpoints are gone."""
        self.inherited.clear()
        self.owned.clear()
        self._save()

    def forget(self) -> None:
        """Nothing of ours is left: keep no text."""
        self.clear()
        self._store.save("")

    def _save(self) -> None:
        self._store.save(write(Notes(self.found, self.set, list(self.owned.values()))))


class Notes(NamedTuple):
    """What the text holds; limits that it does not name are None."""

    found: Limits | None = None
    set: Limits | None = None
    endpoints: Sequence[Endpoint] = ()


def write(notes: Notes) -> str:
    """The text that ``read`` reads."""
    lines = [_HEAD]
    for name, limits in (("found", notes.found), ("set", notes.set)):
        if limits is not None:
            lines.append(f"{name} {limits.add_addr_accepted} {limits.subflows}")
    for address, ident, flags, ifindex in notes.endpoints:
        lines.append(
            f"endpoint {address.ip} {address.port} {ident} {ifindex or 0} {','.join(flags) or '-'}"
        )
    return "\n".join(lines) + "\n"


def read(text: str) -> Notes:
    """What a text says; nothing if it is empty or not ours to read.

    A text that is damaged is not believed at all: better an endpoint too many in the kernel than
    somebody else's deleted.
    """
    lines = text.splitlines()
    if not lines:
        return Notes()
    try:
        if lines[0] != _HEAD:
            raise ValueError(f"begins with {lines[0][:40]!r}")
        limits: dict[str, Limits] = {}
        endpoints = []
        for line in lines[1:]:
            kind, *words = line.split(" ")
            if kind in ("found", "set"):
                accepted, subflows = map(_number, words)
                limits[kind] = Limits(accepted, subflows)
            elif kind == "endpoint":
                endpoints.append(_endpoint(*words))
            else:
                raise ValueError(f"a line begins with {kind[:40]!r}")
        if not text.endswith("\n"):
            raise ValueError("it ends within a line")
    except (ValueError, TypeError) as error:
        _LOG.warning("What was noted about our endpoints is damaged and not used: %s", error)
        return Notes()
    return Notes(limits.get("found"), limits.get("set"), endpoints)


def _endpoint(ip: str, port: str, ident: str, ifindex: str, flags: str) -> Endpoint:
    names = () if flags == "-" else tuple(flags.split(","))
    if not set(names) <= set(FLAGS) or _number(port) > 0xFFFF or not 1 <= _number(ident) <= 255:
        raise ValueError(f"an endpoint with port {port}, ID {ident}, flags {flags}")
    address = SockAddr(ip_address(ip), _number(port))
    return Endpoint(address, _number(ident), names, _number(ifindex) or None)


def _number(text: str) -> int:
    """int(), without signs, blanks and digits of other scripts, and within 32 bits."""
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 32):
        raise ValueError(f"{text!r} is no number")
    return int(text)
