"""The libc calls about processes that Python lacks, with OSError where they fail.

Knows prctl(2), seccomp(2), setfsuid(2) and setfsgid(2); must not know what they are called for.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import strerror
from typing import Any

from mptcpd.nl import uapi as u
from mptcpd.nl._attrs_abi import ffi
from mptcpd.nl.bpf import Instruction

_LIBC = ffi.dlopen(None)


def prctl(option: int, *arguments: Any) -> int:
    """prctl(2); integers are passed as unsigned long, everything else as it is (a pointer).

    All five words are always passed, since the kernel refuses some options when the words that
    they do not use are not zero. Errors: OSError with errno.
    """
    return _checked(_LIBC.prctl(option, *_words(arguments, 4)))


def syscall(number: int, *arguments: Any) -> int:
    """The system call with this number, arguments as in ``prctl``. Errors: OSError with errno.

    Only for calls whose arguments are words on every architecture: 64-bit ones are split in two
    on 32-bit machines, each in its own way.
    """
    return _checked(_LIBC.syscall(number, *_words(arguments, 6)))


def set_name(name: str) -> None:
    """What ps and top call this thread; the kernel keeps 15 characters."""
    prctl(u.PR_SET_NAME, ffi.new("char[]", name.encode()))


def no_new_privileges() -> None:
    """No program that this thread and its children start gives them more rights, for ever."""
    prctl(u.PR_SET_NO_NEW_PRIVS, 1)


def seccomp(number: int, program: Sequence[Instruction], flags: int = 0) -> int:
    """Filter the system calls of this thread and its children, for ever.

    number  of the call seccomp(2) itself, see ``syscalls.numbers``
    flags   SECCOMP_FILTER_FLAG_*; with NEW_LISTENER a descriptor (close-on-exec) comes back, else 0
    Errors  OSError: EACCES without CAP_SYS_ADMIN or ``no_new_privileges``, EBUSY for a second
            listener, EINVAL for a flag that the kernel does not know, ENOSYS without seccomp.
    """
    steps = ffi.new("struct sock_filter[]", list(program))
    head = ffi.new("struct sock_fprog *", (len(program), steps))
    return syscall(number, u.SECCOMP_SET_MODE_FILTER, flags, head)


def set_fs_ids(uid: int, gid: int) -> bool:
    """Whose the files and sockets are that this thread makes from now on; False if not permitted.

    The two calls return what was before, also when they change nothing. So this asks again with a
    value that is never valid.
    """
    _LIBC.setfsgid(gid)
    _LIBC.setfsuid(uid)
    current = _LIBC.setfsuid(0xFFFFFFFF), _LIBC.setfsgid(0xFFFFFFFF)
    return (current[0] & 0xFFFFFFFF, current[1] & 0xFFFFFFFF) == (uid, gid)


def _words(arguments: tuple[Any, ...], count: int) -> list[Any]:
    """The arguments as C words: each as wide as a register, or its upper half would be chance."""
    words = [
        ffi.cast("unsigned long", argument) if isinstance(argument, int) else argument
        for argument in arguments
    ]
    return words + [ffi.cast("unsigned long", 0)] * (count - len(words))


def _checked(result: int) -> int:
    if result == -1:
        number = ffi.errno
        raise OSError(number, strerror(number))
    return result
