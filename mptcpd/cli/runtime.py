"""The runtime directory: what must outlive the daemon, but not the machine.

Knows files below /run and network namespaces; must not know what the text means
(``core.ownership``). There is a file for every network namespace, since endpoints belong to one,
named by the namespace's cookie, a number that the kernel gives out once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
from struct import Struct

from mptcpd.core.ownership import Forgetful, Store

_LOG = logging.getLogger("mptcpd")
NONE = "none"  # as a directory: nothing is kept
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h, Linux 5.14
_COOKIE = Struct("=Q")
CONTROL = "control.sock"
_OURS = ("endpoints-", CONTROL)  # what names of files in the directory begin with
_MOST = 1 << 20  # bytes; 255 endpoints have about 15,000


class FileStore:
    """Keeps the text in ``DIRECTORY/endpoints-COOKIE``, replaced as a whole or not at all.

    Only files that belong to us and that nobody else can write are believed. Who cannot keep the
    text says so once, and goes on without: the next start will then not know its endpoints again.
    """

    def __init__(self, directory: str, name: str | None = None) -> None:
        self._directory = directory
        self._file = os.path.join(directory, f"endpoints-{name or namespace()}")
        self._failing = False

    def load(self) -> str:
        # O_NONBLOCK: a FIFO of that name must not hang us.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(self._file, flags)
        except FileNotFoundError:
            return ""
        except OSError as error:
            self._complain(error)
            return ""
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                _LOG.warning("%s is not believed: it is no regular file.", self._file)
                return ""
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                _LOG.warning("%s is not believed: others could have written it.", self._file)
                return ""
            return os.read(fd, _MOST).decode("utf-8", "replace")
        finally:
            os.close(fd)

    def save(self, text: str) -> None:
        fresh = f"{self._file}.new"
        try:
            if not text:
                os.unlink(self._file)
                return
            os.makedirs(self._directory, mode=0o755, exist_ok=True)
            # Never write through what somebody else may have put there.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(fresh, flags, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
            os.rename(fresh, self._file)
        except OSError as error:
            if text or error.errno != errno.ENOENT:
                self._complain(error)
        else:
            self._failing = False

    def _complain(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            _LOG.warning(
                "%s: %s; after a restart mptcpd will not know its endpoints again.",
                self._file,
                error.strerror,
            )


def store(directory: str) -> Store:
    """Where the text is kept for the daemon of this network namespace."""
    return Forgetful() if directory == NONE else FileStore(directory)


def hand_over(directory: str, uid: int, gid: int) -> None:
    """Make the directory, with what is in it, belong to the user that the daemon is to run as.

    Only by root, only if nothing but files of ours is in it: a directory that others use, too, is
    left as it is. What cannot be done shows when something is to be written there.
    """
    if directory == NONE or os.geteuid() != 0:
        return
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        _LOG.warning("%s: %s", directory, error.strerror)
        return
    try:
        status, names = os.fstat(fd), os.listdir(fd)
        owner = status.st_uid
        if owner == uid or not all(name.startswith(_OURS) for name in names):
            return
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):  # what is in it may be a trap
            return
        # Notes written by root are handed on. Those of a lesser user are not root's: it would
        # believe what that user wrote.
        for name in names if owner == 0 else []:
            if name == CONTROL:
                continue  # it has been given to the group that may use it
            os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
        os.fchown(fd, uid, gid)
    except OSError as error:
        _LOG.warning("%s cannot be given to user %d: %s", directory, uid, error.strerror)
    finally:
        os.close(fd)


def namespace() -> str:
    """The name of this network namespace: its cookie, or before Linux 5.14 its inode."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as probe:
        try:
            cookie = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, _COOKIE.size)
        except OSError:
            return f"inode-{os.stat('/proc/self/ns/net').st_ino}"
    return str(_COOKIE.unpack(cookie)[0])
