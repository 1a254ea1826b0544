"""Which path manager a connection has: the kernel's own, or one in user space.

Knows how to find out without changing anything; must not know sock_diag. The kernel does not say it
in so many words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mptcpd.nl.errors import KernelError
from mptcpd.nl.info import MptcpInfo

KERNEL, USERSPACE = "kernel", "userspace"
_REFUSED = "userspace PM not selected"  # net/mptcp/pm_userspace.c


class Addresses(Protocol):
    """What is needed of ``nl.client.MptcpClient``."""

    def dump_addrs(self, token: int | None = None) -> Sequence[object]: ...


class PathManagers:
    """Asks the kernel where it has to; ``kernel`` None: there is nobody to ask."""

    def __init__(self, kernel: Addresses | None) -> None:
        self._kernel = kernel
        self._tells: bool | None = None

    def of(self, token: int, info: MptcpInfo) -> str | None:
        """KERNEL, USERSPACE, or None where the kernel does not tell (before Linux 6.9)."""
        # Only connections of its own get its limits (net/mptcp/sockopt.c: mptcp_diag_fill_info).
        if info.subflows_max or info.add_addr_accepted_max or info.add_addr_signal_max:
            return KERNEL
        if self._kernel is None or not self._tells_of_tokens():
            return None
        try:
            self._kernel.dump_addrs(token)
        except KernelError as error:
            return KERNEL if error.words == _REFUSED else None  # it may have ended meanwhile
        return USERSPACE

    def _tells_of_tokens(self) -> bool:
        """Whether the dump looks at the token: older kernels list the endpoints, whatever it is."""
        if self._tells is None and self._kernel is not None:
            try:
                self._kernel.dump_addrs(0)  # no connection has this token
                self._tells = False
            except KernelError:
                self._tells = True
        return bool(self._tells)
