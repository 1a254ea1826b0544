"""The kernel's own path manager, as a plugin steers it: endpoints and limits.

Knows which requests make sense and how their answers read; must not know sockets or policy. Every
method returns when the kernel has answered; a refusal is KernelError with the kernel's words.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Protocol

from mptcpd.core.address import IP, SockAddr, from_packed, sockaddr
from mptcpd.core.ids import AddressIds
from mptcpd.core.ownership import Endpoint, Forgetful, Ownership, Store
from mptcpd.nl import mptcp
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import FLAGS, Limits


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

    Address IDs given out here are recorded in ``ids``; an ID whose endpoint the kernel refused is
    free again. ``start`` comes before any other call.
    """

    def __init__(self, kernel: Kernel, ids: AddressIds) -> None:
        self._kernel = kernel
        self._ids = ids
        self.ownership = Ownership(Forgetful(), (), Limits(0, 0))

    def start(self, store: Store) -> None:
        """Find out what is there, and what of it is ours from before. Errors: KernelError."""
        self.learn_ids()
        self.ownership = Ownership(store, self.endpoints(), self.limits())

    def drop_inherited(self) -> list[Endpoint]:
        """Delete our endpoints of an earlier run that nobody has claimed: they apply no more."""
        dropped = list(self.ownership.inherited.values())
        for endpoint in dropped:
            self._remove_if_there(endpoint)
        if dropped:
            self.learn_ids()  # theirs are free
        return dropped

    def clean_up(self) -> None:
        """Delete our endpoints and put the limits back as they were found. Errors: KernelError."""
        for endpoint in list(self.ownership.owned.values()):
            self._remove_if_there(endpoint)
        found = self.found_limits()
        if found != self.limits():
            self.set_limits(found.subflows, found.add_addr_accepted)
        self.ownership.forget()

    def _remove_if_there(self, endpoint: Endpoint) -> None:
        try:
            there = self.get_endpoint(endpoint.id)
            if (there.address, there.ifindex) == (endpoint.address, endpoint.ifindex):
                self.remove_endpoint(endpoint.id)
            else:  # by now the ID is that of somebody else's
                self.ownership.strike(endpoint.id)
        except KernelError as error:
            if not is_not_found(error):
                raise
        if self._ids.find(endpoint.address) == endpoint.id:
            self._ids.remove(endpoint.address)

    def add_endpoint(
        self,
        address: SockAddr | IP | str,
        *,
        local_id: int | None = None,
        flags: Iterable[str] | int = (),
        ifindex: int | None = None,
    ) -> Endpoint:
        """Add an endpoint and return it with the ID it got.

        One that this daemon added before a restart is taken over, with its flags put right.

        local_id  1 to 255; None means the ID of this address, a new one if it has none
        flags     names of ``nl.mptcp.FLAGS``, or their bits; a port makes it ``signal``
        Errors    KernelError: refused; its ``reason`` is EEXIST for an address that is there
                  already, EBUSY for an ID, ERANGE when the kernel has room for no more. ValueError
                  for a bad address, ID or flag; NoFreeId.
        """
        where = sockaddr(address)
        bits = flag_bits(flags) | (FLAGS["signal"] if where.port else 0)
        for old in self.ownership.inherited.values():
            if old.address == where and local_id in (None, old.id):
                return self._take_over(old, bits, ifindex)
        if local_id is not None:
            return self._add(Endpoint(where, _checked(local_id), flag_names(bits), ifindex), bits)
        fresh = self._ids.find(where) is None
        try:
            ident = self._ids.get(where)
            try:
                return self._add(Endpoint(where, ident, flag_names(bits), ifindex), bits)
            except KernelError as error:
                if error.reason not in (errno.EBUSY, errno.EINVAL):
                    raise
                there = next((known for known in self.learn_ids() if known.address == where), None)
                if there is not None:
                    # The kernel replaces an implicit endpoint if we name no ID, and keeps its ID.
                    # Any other one is a duplicate, which it says only now: no ID is in the way.
                    wanted = there._replace(flags=flag_names(bits), ifindex=ifindex)
                    added = self._add(wanted, bits, named=False)
                    self._ids.remove(where)
                    self._ids.get(where)  # from now on that of its endpoint
                    return added
                if error.reason != errno.EBUSY:
                    raise
                # Somebody else has given this ID to an endpoint since we last looked.
                self._ids.remove(where, seen=False)
            ident = self._ids.get(where)
            return self._add(Endpoint(where, ident, flag_names(bits), ifindex), bits)
        except KernelError:
            if fresh:
                self._ids.remove(where, seen=False)
            raise

    def _add(self, endpoint: Endpoint, bits: int, *, named: bool = True) -> Endpoint:
        address, ident, _flags, ifindex = endpoint
        before = self.ownership.owned.get(ident)
        self.ownership.note(endpoint)
        try:
            self._kernel.add_addr(
                mptcp.Address(
                    address.packed, address.port, ident if named else None, bits, ifindex
                )
            )
        except KernelError:
            if before is None:
                self.ownership.strike(ident)
            else:
                self.ownership.note(before)
            raise
        return endpoint

    def _take_over(self, old: Endpoint, bits: int, ifindex: int | None) -> Endpoint:
        """Make our endpoint of an earlier run what is wanted now, with the least disturbance."""
        wanted = Endpoint(old.address, old.id, flag_names(bits), ifindex)
        changed = flag_bits(old.flags) ^ bits
        if old.ifindex != ifindex or changed & ~_CHANGEABLE:
            self.remove_endpoint(old.id)
            return self._add(wanted, bits)
        if changed:
            self.set_endpoint_flags(old.id, bits)
        self.ownership.note(wanted)
        return wanted

    def learn_ids(self) -> list[Endpoint]:
        """Let ``ids`` know which IDs the kernel's endpoints have; return these endpoints."""
        endpoints = self.endpoints()
        self._ids.learn((endpoint.address, endpoint.id) for endpoint in endpoints)
        return endpoints

    def remove_endpoint(self, local_id: int) -> None:
        """Delete an endpoint: its subflows close, the peer is told (RM_ADDR).

        Errors  KernelError "address not found"; ValueError for an ID outside 1 to 255.
        """
        try:
            self._kernel.del_addr(mptcp.Address(None, id=_checked(local_id)))
        except KernelError as error:
            if is_not_found(error):
                self.ownership.strike(local_id)
            raise
        self.ownership.strike(local_id)

    def get_endpoint(self, local_id: int) -> Endpoint:
        """The endpoint with this ID. Errors: as ``remove_endpoint``."""
        return _endpoint(self._kernel.get_addr(_checked(local_id)))

    def endpoints(self) -> list[Endpoint]:
        """All endpoints, whoever added them. Errors: KernelError."""
        return [_endpoint(address) for address in self._kernel.dump_addrs()]

    def flush_endpoints(self) -> None:
        """Delete all endpoints, whoever added them. Errors: KernelError."""
        self._kernel.flush_addrs()
        self.ownership.clear()

    def set_endpoint_flags(
        self, address_or_id: SockAddr | IP | str | int, flags: Iterable[str] | int
    ) -> None:
        """Change ``backup`` and ``fullmesh`` together; the kernel keeps the other flags.

        An address with a port means the endpoint with that port, or one without any.
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

    def found_limits(self) -> Limits:
        """The limits as others left them: before this daemon first changed them, in this run or an
        earlier one, or since, if they are not as it set them. Errors: KernelError."""
        self.ownership.limits_seen(self.limits())
        return self.ownership.found

    def set_limits(
        self, subflows: int | None = None, add_addr_accepted: int | None = None
    ) -> None:
        """Set the limits that are given. Errors: KernelError "limit greater than maximum (8)";
        ValueError if none is given."""
        if subflows is None and add_addr_accepted is None:
            raise ValueError("no limit is given")
        self.ownership.limits_seen(self.limits())
        self._kernel.set_limits(subflows, add_addr_accepted)
        self.ownership.limits_set(self.limits())


# SET_FLAGS changes these two, and keeps the others (net/mptcp/pm_kernel.c).
_CHANGEABLE = FLAGS["backup"] | FLAGS["fullmesh"]


def is_not_found(error: KernelError) -> bool:
    """Whether the kernel refused since no endpoint has that ID."""
    return error.errno == errno.EINVAL and error.words == "address not found"


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
