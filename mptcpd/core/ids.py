"""Address IDs: one number from 1 to 255 for every local address (RFC 8684, 3.4.1).

Knows IPs and IDs; must not know who uses them. Ports and scopes do not count: an address has one
ID. 0 is not given out; it names the address of a connection's first subflow.
"""

from __future__ import annotations

from mptcpd.core.address import IP, SockAddr, sockaddr

MAX_ID = 255


class NoFreeId(Exception):
    """All 255 address IDs are taken."""


class AddressIds:
    """IP -> ID for the whole process, shared by all plugins."""

    def __init__(self) -> None:
        self._ids: dict[bytes, int] = {}
        self._used: set[int] = set()

    def get(self, address: SockAddr | IP | str) -> int:
        """The ID of this address: the one it has, else the lowest that is free.

        Errors  NoFreeId; ValueError for text that is no address.
        """
        ip = sockaddr(address).packed
        known = self._ids.get(ip)
        if known is not None:
            return known
        for ident in range(1, MAX_ID + 1):
            if ident not in self._used:
                self._used.add(ident)
                self._ids[ip] = ident
                return ident
        raise NoFreeId(f"all {MAX_ID} address IDs are taken; none is left for {address}")

    def find(self, address: SockAddr | IP | str) -> int | None:
        """The ID that this address has, None if it has none."""
        return self._ids.get(sockaddr(address).packed)

    def remove(self, address: SockAddr | IP | str) -> int | None:
        """Free the ID of this address and return it; None if it has none."""
        ident = self._ids.pop(sockaddr(address).packed, None)
        if ident is not None:
            self._used.discard(ident)
        return ident

    def map(self, address: SockAddr | IP | str, ident: int) -> None:
        """Record an ID that the kernel already uses for this address.

        Where the address has another ID (endpoints of one IP with different ports), that one stays
        and ``ident`` is only marked as taken.
        Errors  ValueError for an ID outside 1 to 255, or one that another address has.
        """
        if not 1 <= ident <= MAX_ID:
            raise ValueError(f"address ID {ident} is not within 1 to {MAX_ID}")
        ip = sockaddr(address).packed
        if self._ids.get(ip) == ident:
            return
        owner = next((packed for packed, number in self._ids.items() if number == ident), None)
        if owner is not None:
            raise ValueError(f"address ID {ident} belongs to another address than {address}")
        self._used.add(ident)
        self._ids.setdefault(ip, ident)
