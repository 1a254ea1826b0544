"""Entering and leaving Linux namespaces: the libc calls that Python has only since 3.12.

Knows setns(2) and unshare(2); must not know what is done inside.
"""

from __future__ import annotations

from os import strerror

from mptcpd.nl._attrs_abi import ffi

_LIBC = ffi.dlopen(None)


def setns(fd: int, kind: int) -> None:
    """Move this thread into the namespace that ``fd`` refers to (an open /proc/PID/ns file).

    kind    CLONE_NEW* that the namespace must be, 0 for any.
    Errors  OSError with errno: EPERM without CAP_SYS_ADMIN there, EINVAL for another kind.
    """
    _check(_LIBC.setns(fd, kind))


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags`` (CLONE_NEW*) for new ones.

    Errors  OSError with errno: EPERM without the right, ENOSPC at the limit of namespaces, EINVAL
            for CLONE_NEWUSER in a process of several threads.
    """
    _check(_LIBC.unshare(flags))


def _check(result: int) -> None:
    if result:
        number = ffi.errno
        raise OSError(number, strerror(number))
