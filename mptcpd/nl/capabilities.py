"""What this process may do: capabilities(7), and the prctl(2) options beside them.

Knows    capget, capset; the sets as plain integers, bit N for capability number N.
Not      which capabilities anybody needs (``cli.privileges``).
Errors   OSError with errno, as the kernel gave it: EPERM above all.
Source   linux/capability.h: struct __user_cap_header_struct, struct __user_cap_data_struct;
         security/commoncap.c: cap_capset, cap_task_prctl.

All of it is about the calling thread; this program has only one.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from os import strerror
from typing import Any, NamedTuple

from mptcpd.nl import libc
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs_abi import ffi

_LIBC = ffi.dlopen(None)
_VERSION = 0x20080522  # linux/capability.h: _LINUX_CAPABILITY_VERSION_3, two words a set
# linux/capability.h, by number, without CAP_.
NAMES = (
    *("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid"),
    *("setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw"),
    *("ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct"),
    *("sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod"),
    *("lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog"),
    *("wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore"),
)


class Sets(NamedTuple):
    """The three sets that capset(2) sets; bounding and ambient set have calls of their own."""

    effective: int
    permitted: int
    inheritable: int = 0


def words(mask: int) -> str:
    """``cap_net_admin,cap_net_bind_service``; ``none`` for no capability at all."""
    found = [number for number in range(mask.bit_length()) if mask >> number & 1]
    return ",".join(_name(number) for number in found) or "none"


def _name(number: int) -> str:
    return f"cap_{NAMES[number]}" if number < len(NAMES) else f"cap_{number}"


def get() -> Sets:
    """The sets of this process."""
    header, data = _call_data()
    _check(_LIBC.capget(header, data))
    low, high = data[0], data[1]
    return Sets(
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def put(sets: Sets) -> None:
    """Set all three. A capability that leaves the permitted set cannot come back."""
    header, data = _call_data()
    for half, shift in ((data[0], 0), (data[1], 32)):
        half.effective, half.permitted, half.inheritable = (
            mask >> shift & 0xFFFFFFFF for mask in sets
        )
    _check(_LIBC.capset(header, data))


def bounding() -> Iterator[int]:
    """The numbers in the bounding set."""
    for number in range(64):
        try:
            if libc.prctl(u.PR_CAPBSET_READ, number):
                yield number
        except OSError as error:
            if error.errno == errno.EINVAL:  # the kernel knows no further ones
                return
            raise


def drop_bounding(number: int) -> None:
    """Take one out of the bounding set, for good. Errors: EPERM without CAP_SETPCAP."""
    libc.prctl(u.PR_CAPBSET_DROP, number)


def clear_ambient() -> None:
    """Empty the ambient set: what a program that is executed would start with."""
    libc.prctl(u.PR_CAP_AMBIENT, u.PR_CAP_AMBIENT_CLEAR_ALL)


def keep_over_setuid(keep: bool) -> None:
    """Whether the permitted set outlives a change from user 0 to another."""
    libc.prctl(u.PR_SET_KEEPCAPS, int(keep))


def _call_data() -> tuple[Any, Any]:
    return ffi.new("struct cap_header *", (_VERSION, 0)), ffi.new("struct cap_data[2]")


def _check(result: int) -> None:
    if result < 0:
        number = ffi.errno
        raise OSError(number, strerror(number))
