"""Address IDs: one number from 1 to 255 for every local address (RFC 8684, 3.4.1).

Knows IPs and IDs; must not know who uses them. Ports and scopes do not count: an address has one
ID. 0 is not given out; it names the address of a connection's first subflow.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from mptcpd.core.address import IP, SockAddr, sockaddr

MAX_ID = 255
_ALL = range(1, MAX_ID + 1)


class NoFreeId(Exception):
    """All 255 address IDs are taken."""


class AddressIds:
    """IP -> ID for the whole process, shared by all plugins."""

    def __init__(self) -> None:
        self._ids: dict[bytes, int] = {}
        self._used: set[int] = set()
        self._kernel: dict[int, bytes] = {}  # ID -> IP of the kernel's endpoints, when last told
        self._former: dict[int, bytes] = {}  # free ID -> IP that had it last

    def get(self, address: SockAddr | IP | str) -> int:
        """The ID of this address: the one it has, else that of its endpoint, else the lowest free.

        One that it had before comes before lower ones: an address that moves to another interface
        is gone for a moment, and peers know it by its ID.
        Errors  NoFreeId; ValueError for text that is no address.
        """
        ip = sockaddr(address).packed
        known = self._ids.get(ip)
        if known is not None:
            return known
        theirs = [ident for ident, owner in self._kernel.items() if owner == ip]
        former = [ident for ident, owner in self._former.items() if owner == ip]
        ours = [ident for ident in chain(former, _ALL) if ident not in self._kernel]
        for ident in chain(theirs, ours):
            if ident not in self._used:
                for outdated in (*former, ident):
                    self._former.pop(outdated, None)
                self._used.add(ident)
                self._ids[ip] = ident
                return ident
        raise NoFreeId(f"all {MAX_ID} address IDs are taken; none is left for {address}")

    def find(self, address: SockAddr | IP | str) -> int | None:
        """The ID that this address has, None if it has none."""
        return self._ids.get(sockaddr(address).packed)

    def remove(self, address: SockAddr | IP | str, *, seen: bool = True) -> int | None:
        """Free the ID of this address and return it; None if it has none.

        seen  False: no peer can know it, so the address has no claim to get it again
        """
        ip = sockaddr(address).packed
        ident = self._ids.pop(ip, None)
        if ident is not None:
            self._used.discard(ident)
            if seen:
                self._former[ident] = ip
        return ident

    def learn(self, endpoints: Iterable[tuple[SockAddr, int]]) -> None:
        """Take note of the address and ID of every endpoint that the kernel has now.

        None of these IDs is given to another address, until the next call tells of others: the
        endpoints of other programs come and go. An ID that was given out before stays as it is.
        """
        self._kernel = {ident: address.packed for address, ident in endpoints}
