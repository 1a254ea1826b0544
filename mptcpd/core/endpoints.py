"""The kernel's own path manager, as a plugin steers it: endpoints and limits.

Knows which requests make sense and how their answers read; must not know sockets or policy. Every
method returns when the kernel has answered; a refusal is KernelError with the kernel's words.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from mptcpd.core.address import IP, SockAddr, from_packed, sockaddr
from mptcpd.core.ids import AddressIds
from mptcpd.nl import mptcp
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import FLAGS, Limits


class Endpoint(NamedTuple):
    """An endpoint of the kernel's own path manager.

    address  with its port, 0 if it has none      id       address ID
    flags    names, in the kernel's order          ifindex  None means any interface
    """

    address: SockAddr
    id: int
    flags: tuple[str, ...]
    ifindex: int | None


class Kernel(Protocol):
    """What is needed of ``nl.client.MptcpClient``."""

    def add_addr(self, endpoint: mptcp.Address) -> None: ...
    def del_addr(self, endpoint: mptcp.Address) -> None: ...
    def get_addr(self, ident: int, token: int | None = None) -> mptcp.Address: ...
    def dump_addrs(self, token: int | None = None) -> list[mptcp.Address]: ...
    def flush_addrs(self) -> None: ...
    def set_limits(
        self, subflows: int | None = None, add_addr_accepted: int | None = None
    ) -> None: ...
    def get_limits(self) -> Limits: ...
    def set_flags(
        self,
        address: mptcp.Address,
        remote: mptcp.Address | None = None,
        token: int | None = None,
    ) -> None: ...


class Endpoints:
    """Endpoints and limits of the kernel's own path manager.

    Address IDs given out here are recorded in ``ids``; an ID whose endpoint the kernel refused, or
    that was deleted, is free again.
    """

    def __init__(self, kernel: Kernel, ids: AddressIds) -> None:
        self._kernel = kernel
        self._ids = ids

    def add_endpoint(
        self,
        address: SockAddr | IP | str,
        *,
        local_id: int | None = None,
        flags: Iterable[str] | int = (),
        ifindex: int | None = None,
    ) -> Endpoint:
        """Add an endpoint and return it with the ID it got.

        local_id  1 to 255; None means the ID of this address, a new one if it has none
        flags     names of ``nl.mptcp.FLAGS``, or their bits; a port makes it ``signal``
        Errors    KernelError: refused; its ``reason`` is EEXIST for an address that is there
                  already, EBUSY for an ID, ERANGE when the kernel has room for no more. ValueError
                  for a bad address, ID or flag; NoFreeId.
        """
        where = sockaddr(address)
        bits = flag_bits(flags) | (FLAGS["signal"] if where.port else 0)
        if local_id is not None:
            ident = _checked(local_id)
            self._kernel.add_addr(mptcp.Address(where.packed, where.port, ident, bits, ifindex))
            return Endpoint(where, ident, flag_names(bits), ifindex)
        fresh = self._ids.find(where) is None
        try:
            ident = self._add_with_free_id(where, bits, ifindex)
        except KernelError:
            if fresh:
                self._ids.remove(where)
            raise
        return Endpoint(where, ident, flag_names(bits), ifindex)

    def _add_with_free_id(self, where: SockAddr, bits: int, ifindex: int | None) -> int:
        ident = self._ids.get(where)
        try:
            self._kernel.add_addr(mptcp.Address(where.packed, where.port, ident, bits, ifindex))
        except KernelError as error:
            if error.reason != errno.EBUSY:
                raise
            # Somebody else has given this ID to an endpoint since we last looked.
            self._ids.remove(where)
            self.learn_ids()
            ident = self._ids.get(where)
            self._kernel.add_addr(mptcp.Address(where.packed, where.port, ident, bits, ifindex))
        return ident

    def learn_ids(self) -> None:
        """Record the IDs that the kernel's endpoints have, whoever added them."""
        for endpoint in self.endpoints():
            owner = self._ids.find(endpoint.address)
            if owner != endpoint.id:
                self._ids.map(endpoint.address, endpoint.id)

    def remove_endpoint(self, local_id: int) -> None:
        """Delete an endpoint: its subflows close, the peer is told (RM_ADDR).

        Errors  KernelError "address not found"; ValueError for an ID outside 1 to 255.
        """
        self._kernel.del_addr(mptcp.Address(None, id=_checked(local_id)))

    def get_endpoint(self, local_id: int) -> Endpoint:
        """The endpoint with this ID. Errors: as ``remove_endpoint``."""
        return _endpoint(self._kernel.get_addr(_checked(local_id)))

    def endpoints(self) -> list[Endpoint]:
        """All endpoints, whoever added them. Errors: KernelError."""
        return [_endpoint(address) for address in self._kernel.dump_addrs()]

    def flush_endpoints(self) -> None:
        """Delete all endpoints, whoever added them. Errors: KernelError."""
        self._kernel.flush_addrs()

    def set_endpoint_flags(
        self, address_or_id: SockAddr | IP | str | int, flags: Iterable[str] | int
    ) -> None:
        """Change ``backup`` and ``fullmesh`` together; the kernel keeps the other flags.

        An address with a port means the endpoint with that port.
        Errors  KernelError "address not found", "invalid addr flags"; ValueError.
        """
        bits = flag_bits(flags)
        if isinstance(address_or_id, int):
            address = mptcp.Address(None, id=_checked(address_or_id), flags=bits)
        else:
            where = sockaddr(address_or_id)
            signal = FLAGS["signal"] if where.port else 0
            address = mptcp.Address(where.packed, where.port, flags=bits | signal)
        self._kernel.set_flags(address)

    def limits(self) -> Limits:
        """``add_addr_accepted`` and ``subflows``, per connection. Errors: KernelError."""
        return self._kernel.get_limits()

    def set_limits(
        self, subflows: int | None = None, add_addr_accepted: int | None = None
    ) -> None:
        """Set the limits that are given. Errors: KernelError "limit greater than maximum (8)";
        ValueError if none is given."""
        if subflows is None and add_addr_accepted is None:
            raise ValueError("no limit is given")
        self._kernel.set_limits(subflows, add_addr_accepted)


def flag_bits(flags: Iterable[str] | int) -> int:
    """Names of flags to the kernel's bits. Errors: ValueError naming what is allowed."""
    if isinstance(flags, int):
        return flags
    bits = 0
    for name in [flags] if isinstance(flags, str) else flags:
        if name not in FLAGS:
            raise ValueError(f"unknown address flag {name!r}; allowed: {', '.join(FLAGS)}")
        bits |= FLAGS[name]
    return bits


def flag_names(bits: int) -> tuple[str, ...]:
    """The kernel's bits to names; bits without a name are left out."""
    return tuple(name for name, bit in FLAGS.items() if bits & bit)


def _checked(ident: int) -> int:
    if not 1 <= ident <= 255:
        raise ValueError(f"address ID {ident} is not within 1 to 255")
    return ident


def _endpoint(address: mptcp.Address) -> Endpoint:
    assert address.ip is not None  # parse_address promises IP and ID
    assert address.id is not None
    where = from_packed(address.ip, address.port)
    return Endpoint(where, address.id, flag_names(address.flags or 0), address.ifindex)
