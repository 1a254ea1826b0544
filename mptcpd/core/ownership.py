"""Which endpoints are this daemon's, over restarts: only those are changed or deleted.

Knows how ownership is written down and read again; must not know files (a Store keeps the text) nor
commands. An endpoint is written down before the kernel is asked for it and struck out after it was
deleted, so a crash in between leaves a note about nothing, never an endpoint that nobody owns.

Shape of the text, one thing a line:

    mptcpd 1
    limits ADD_ADDR_ACCEPTED SUBFLOWS          as found before the first change
    endpoint ADDRESS PORT ID IFINDEX FLAGS     IFINDEX 0: any; FLAGS: names with commas, or -
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from mptcpd.core.address import SockAddr, sockaddr
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
    found      the limits as they were before this daemon first changed them
    """

    def __init__(self, store: Store, present: Iterable[Endpoint], limits: Limits) -> None:
        """``present``: the endpoints that the kernel has now; ``limits``: those in force."""
        self._store = store
        found, noted = read(store.load())
        places = {(note.address, note.id, note.ifindex) for note in noted}
        self.inherited = {
            endpoint.id: endpoint
            for endpoint in present
            if (endpoint.address, endpoint.id, endpoint.ifindex) in places
        }
        self.owned = dict(self.inherited)
        self.found = limits if found is None else found

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
        self._store.save(write(self.found, self.owned.values()))


def write(limits: Limits, endpoints: Iterable[Endpoint]) -> str:
    """The text that ``read`` reads."""
    lines = [_HEAD, f"limits {limits.add_addr_accepted} {limits.subflows}"]
    for address, ident, flags, ifindex in endpoints:
        lines.append(
            f"endpoint {address.ip} {address.port} {ident} {ifindex or 0} {','.join(flags) or '-'}"
        )
    return "\n".join(lines) + "\n"


def read(text: str) -> tuple[Limits | None, list[Endpoint]]:
    """Limits and endpoints of a text; nothing if it is empty or not ours to read.

    A text that is damaged is not believed at all: better an endpoint too many in the kernel than
    somebody else's deleted.
    """
    lines = text.splitlines()
    if not lines:
        return None, []
    try:
        if lines[0] != _HEAD:
            raise ValueError(f"begins with {lines[0]!r}")
        limits: Limits | None = None
        endpoints = []
        for line in lines[1:]:
            kind, *words = line.split(" ")
            if kind == "limits":
                accepted, subflows = map(int, words)
                limits = Limits(accepted, subflows)
            elif kind == "endpoint":
                endpoints.append(_endpoint(*words))
            else:
                raise ValueError(f"a line begins with {kind!r}")
    except (ValueError, TypeError) as error:
        _LOG.warning("What was noted about our endpoints is damaged and not used: %s", error)
        return None, []
    return limits, endpoints


def _endpoint(ip: str, port: str, ident: str, ifindex: str, flags: str) -> Endpoint:
    address = sockaddr(ip)
    names = () if flags == "-" else tuple(flags.split(","))
    if not set(names) <= set(FLAGS) or not 0 <= int(port) <= 0xFFFF or not 1 <= int(ident) <= 255:
        raise ValueError(f"an endpoint with port {port}, ID {ident}, flags {flags}")
    return Endpoint(SockAddr(address.ip, int(port)), int(ident), names, int(ifindex) or None)
