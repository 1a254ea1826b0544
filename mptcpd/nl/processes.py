"""Whose a thread is and in which network namespace it is; acting in its place for a moment.

Knows /proc, setns(2) and setfsuid(2); must not know what is done in that place. What is true of a
thread now need not be so any more when this returns: only its caller can know that it waited.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from mptcpd.nl import libc
from mptcpd.nl.namespaces import setns
from mptcpd.nl.uapi import CLONE_NEWNET


class Place(NamedTuple):
    """Where a socket would belong that a thread makes."""

    namespace: tuple[int, int]  # the network namespace, by device and inode
    uid: int
    gid: int


class Processes:
    """Keeps /proc open, so that it works whatever becomes of our root and our mounts."""

    def __init__(self) -> None:
        """Errors: OSError if /proc is not there, or is that of another PID namespace."""
        self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if os.readlink("self", dir_fd=self._proc) != str(os.getpid()):
                raise FileNotFoundError(2, "it shows the processes of another PID namespace")
            self._home = os.open("self/ns/net", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
            try:
                self.home = self.place(os.getpid())
            except OSError:
                os.close(self._home)
                raise
        except OSError:
            os.close(self._proc)
            raise

    def place(self, thread: int) -> Place:
        """Errors: FileNotFoundError, ProcessLookupError: it ended. PermissionError: not for us."""
        where = os.stat(f"{thread}/ns/net", dir_fd=self._proc)
        # The folder itself always belongs to the effective user, who makes files and sockets in
        # all programs but file servers (fs/proc/base.c: task_dump_owner).
        who = os.stat(f"{thread}", dir_fd=self._proc)
        return Place((where.st_dev, where.st_ino), who.st_uid, who.st_gid)

    @contextlib.contextmanager
    def acting_at(self, place: Place, thread: int) -> Iterator[None]:
        """Be in the namespace of ``thread`` and act as its user inside the ``with`` block.

        Errors  OSError: we have no right to. Then nothing was changed.
        """
        home = self.home
        visited = (place.uid, place.gid) != (home.uid, home.gid)
        away = place.namespace != home.namespace
        try:
            if away:
                fd = os.open(f"{thread}/ns/net", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
                try:
                    setns(fd, CLONE_NEWNET)
                finally:
                    os.close(fd)
            if visited and not libc.set_fs_ids(place.uid, place.gid):
                raise PermissionError(1, f"no right to act for user {place.uid}")
            yield
        finally:
            if visited:
                libc.set_fs_ids(home.uid, home.gid)
            if away:
                setns(self._home, CLONE_NEWNET)

    def close(self) -> None:
        os.close(self._proc)
        os.close(self._home)
