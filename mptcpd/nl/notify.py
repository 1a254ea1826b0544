"""The listener of a seccomp filter: hears of system calls, and answers in place of the kernel.

Knows the descriptor, its ioctls and their structs; must not know which calls are of interest or
what becomes of them. Source: seccomp_unotify(2), kernel/seccomp.c.

Python's fcntl.ioctl copies structs of this size to and fro itself, which takes less time than a
call through cffi with a variable number of arguments.
"""

from __future__ import annotations

import errno
from fcntl import ioctl
from struct import Struct

from mptcpd.nl import uapi as u
from mptcpd.nl.seccomp import ioctls, notif, notif_addfd, notif_resp
from mptcpd.nl.syscalls import Abi

_CALL = Struct("=QI20x3Q24x")  # of notif: id, pid, the first three arguments
_ZERO = bytes(notif.size)
_INT = 0xFFFFFFFF

Call = tuple[int, int, int, int, int]  # id, thread, the first three arguments as unsigned ints


class Listener:
    """Calls that wait for an answer. Every method may raise OSError for what it does not name.

    A call may vanish before it is answered: its thread was killed, or a signal interrupted it, and
    it comes again as a new one. An answer to a call that is there proves that its thread was there
    all the time, so that what was read about the thread before was about no other.
    """

    def __init__(self, fd: int, abi: Abi) -> None:
        """``fd`` stays the caller's to close."""
        self._fd = fd
        self._ioctls = ioctls(abi)
        self._call = bytearray(notif.size)
        self._answer = bytearray(notif_resp.size)
        self._gift = bytearray(notif_addfd.size)

    def can_give(self) -> bool:
        """Whether the kernel can hand over a descriptor and answer at once (Linux 5.14)."""
        try:
            self.give(0, self._fd, 0)
        except OSError as error:
            # The flags are looked at first. EINVAL: not known. ENOTTY: not even the request is.
            return error.errno not in (errno.EINVAL, errno.ENOTTY)
        return True

    def wake_on_this_cpu(self) -> bool:
        """Let caller and listener run by turns on one CPU: 25 us a call instead of 72 (measured).

        False where the kernel cannot (before Linux 6.6).
        """
        try:
            ioctl(self._fd, self._ioctls.set_flags, u.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY):
                return False
            raise
        return True

    def receive(self) -> Call | None:
        """The next call; None if it vanished meanwhile. Waits if there is none: poll before."""
        buffer = self._call
        buffer[:] = _ZERO  # the kernel refuses anything else
        try:
            ioctl(self._fd, self._ioctls.recv, buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        ident, thread, one, two, three = _CALL.unpack(buffer)
        return ident, thread, one & _INT, two & _INT, three & _INT

    def give(self, ident: int, fd: int, flags: int) -> int | None:
        """Let the call return a new descriptor for what ``fd`` is; ``flags``: O_CLOEXEC or 0.

        Returns its number in the program; None if the call vanished.
        Errors   OSError, with the call still waiting: EMFILE, the program has no number left.
        """
        gift = self._gift
        notif_addfd.pack_into(gift, 0, ident, u.SECCOMP_ADDFD_FLAG_SEND, fd, 0, flags)
        try:
            number: int = ioctl(self._fd, self._ioctls.addfd, gift)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return number

    def proceed(self, ident: int) -> bool:
        """Let the kernel carry out the call as it stands. False if the call vanished."""
        flag = u.SECCOMP_USER_NOTIF_FLAG_CONTINUE
        notif_resp.pack_into(self._answer, 0, ident, 0, 0, flag)
        try:
            ioctl(self._fd, self._ioctls.send, self._answer)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True
