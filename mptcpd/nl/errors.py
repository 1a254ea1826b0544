"""What can go wrong between us and the kernel, split by who must act differently.

Knows the shape of an error; must not know sockets, families or policy.
"""

from __future__ import annotations

import errno as _errno
from os import strerror as _strerror


class NetlinkError(Exception):
    """Any failure of the netlink stack."""


class DecodeError(NetlinkError):
    """The bytes are not the promised shape: count it, drop that message, go on."""


class KernelError(NetlinkError):
    """The kernel said no.

    command    what we asked for, under the kernel's name (``MPTCP_PM_CMD_SET_LIMITS``)
    errno      positive error number; ``reason`` is the one that the kernel's words carry, if any
    words      the kernel's own text (extended ack), or None
    attribute  name of the attribute it complains about, or None
    """

    def __init__(
        self, command: str, errno: int, words: str | None = None, attribute: str | None = None
    ) -> None:
        super().__init__(command, errno, words, attribute)
        self.command = command
        self.errno = errno
        self.words = words
        self.attribute = attribute

    @property
    def reason(self) -> int:
        """The error number that ends the kernel's words, else errno.

        The in-kernel path manager says ``too many addresses or duplicate one: -34``: what happened
        is the 34. Linux 6.18 gives the same errno, older kernels EINVAL for all of them
        (net/mptcp/pm_kernel.c: mptcp_pm_nl_add_addr_doit).
        """
        _text, mark, number = (self.words or "").rpartition(": -")
        # MAX_ERRNO has four digits; a longer number is none, and strerror could not take it.
        plain = mark and number.isascii() and number.isdigit() and len(number) <= 4
        return int(number) if plain else self.errno

    def __str__(self) -> str:
        name = _errno.errorcode.get(self.errno, str(self.errno))
        parts = [self.command]
        if self.words:
            parts.append(self.words)
        if self.attribute:
            parts.append(f"attribute {self.attribute}")
        parts.append(f"{_strerror(self.errno)} ({name})")
        if self.reason != self.errno:
            parts.append(f"because of {_strerror(self.reason)}")
        return ": ".join(parts)


class Overrun(NetlinkError):
    """The kernel dropped messages for us (ENOBUFS): resynchronise."""


class Unavailable(NetlinkError):
    """No such protocol, family or group: say so and stop."""
