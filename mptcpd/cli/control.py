"""The control socket from the daemon's side: where it is, whose it is, and who answers there.

Knows files, rights and what systemd hands over; must not know the protocol. What answers
(``control_server`` and all that it needs) is loaded when the first client comes.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mptcpd.cli.runtime import CONTROL, NONE

if TYPE_CHECKING:
    from mptcpd.cli.control_commands import Answers
    from mptcpd.cli.control_server import Server
    from mptcpd.cli.reload import Reload
    from mptcpd.cli.service import Service

_LOG = logging.getLogger("mptcpd")
_BACKLOG = 64  # where clients wait in a row; a longer one is only a longer wait in a crowd
_FIRST = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START


class Control:
    """The listening socket; ``server`` and ``answers`` are there once a client has come.

    where  its file's name, "systemd" for one that was handed over, None where there is none
    """

    def __init__(self) -> None:
        self.where: str | None = None
        self.server: Server | None = None
        self.answers: Answers | None = None
        self._group: int | None = None
        self._socket: socket.socket | None = None
        self._file: str | None = None
        self._made: tuple[int, int] | None = None
        self._service: Service | None = None
        self._reload: Reload | None = None

    def open(self, directory: str, group: int | None, environment: Mapping[str, str]) -> None:
        """Be there for clients, who wait until ``serve``. What keeps it from that is logged.

        directory  the runtime directory, or ``runtime.NONE``
        group      whose members may use it, too
        """
        self._group = group
        self._socket = handed_over(environment)
        if self._socket is not None:
            self.where = "systemd"
        elif directory != NONE:
            file = os.path.join(directory, CONTROL)
            try:
                self._socket = listen(file, group)
            except OSError as error:
                _LOG.warning("No control socket: %s: %s.", file, error.strerror or error)
            else:
                self._file = self.where = file
                self._made = _identity(file)

    def serve(self, service: Service, reload: Reload) -> None:
        """Answer from the service's loop, from now on."""
        self._service, self._reload = service, reload
        if self._socket is not None:
            service.loop.add_reader(self._socket.fileno(), self._first)

    def close(self) -> None:
        """Nobody is answered any more; the file goes, unless somebody else's took its place."""
        if self.server is not None:
            self.server.close()
        elif self._socket is not None and self._service is not None:
            self._service.loop.remove_reader(self._socket.fileno())
        self.server = self._service = None
        if self._socket is not None:
            if self._file is not None and _identity(self._file) == self._made:
                with contextlib.suppress(OSError):
                    os.unlink(self._file)
            self._socket.close()
            self._socket = None

    def _first(self) -> None:
        """Somebody is at the door for the first time."""
        try:
            import json  # noqa: F401  what the protocol needs, found missing here, once

            from mptcpd.cli import control_peer
            from mptcpd.cli.control_commands import Answers
            from mptcpd.cli.control_server import Server
        except ImportError as error:
            # A user= who may not read Python's own files, or an installation that was taken away.
            _LOG.error("The control socket is closed: %s", error)
            self.close()
            return
        assert self._service is not None and self._reload is not None and self._socket is not None
        loop = self._service.loop
        loop.remove_reader(self._socket.fileno())
        self.answers = Answers(self._service, self._reload, self)
        self.server = Server(
            loop,
            self._socket,
            self.answers,
            lambda peer: control_peer.may_use(peer, self._group),
            self.answers.gone,
        )


def listen(file: str, group: int | None) -> socket.socket:
    """A listening socket at ``file``: mode 0600, or 0660 for a group. Errors: OSError.

    A socket that nobody listens at any more is replaced, nothing else is.
    """
    os.makedirs(os.path.dirname(file), mode=0o755, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        mask = os.umask(0o177)
        try:
            _bind(sock, file)
        finally:
            os.umask(mask)
        if group is not None:
            try:
                os.chown(file, -1, group)
                os.chmod(file, 0o660)
            except PermissionError:  # who is not root can give it to groups of his own alone
                _LOG.warning(
                    "control-group: %s cannot be given to group %d, of which mptcpd is no member "
                    "(systemd's unit needs a drop-in file for that, see mptcpd.conf(5)).",
                    file,
                    group,
                )
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, file: str) -> None:
    try:
        sock.bind(file)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        status = os.lstat(file)
        if not stat.S_ISSOCK(status.st_mode):
            raise OSError(errno.EEXIST, "something that is no socket is there") from None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            # EAGAIN: its queue is full, so somebody is there.
            if probe.connect_ex(file) != errno.ECONNREFUSED:
                raise OSError(errno.EADDRINUSE, "another daemon answers there") from None
        os.unlink(file)
        sock.bind(file)


def _identity(file: str) -> tuple[int, int] | None:
    """Which file has this name now."""
    try:
        status = os.lstat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def handed_over(environment: Mapping[str, str], pid: int | None = None) -> socket.socket | None:
    """The socket that a service manager opened for us, if it means this process.

    Source  sd_listen_fds(3): LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES; a listening stream socket of
            AF_UNIX is expected, the first one that is called "control", else the first one.
    """
    count = environment.get("LISTEN_FDS", "")
    ours = environment.get("LISTEN_PID") == str(os.getpid() if pid is None else pid)
    if not ours or not (count.isascii() and count.isdigit() and len(count) < 4):
        return None
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    numbers = sorted(
        range(int(count)), key=lambda index: names[index : index + 1] != ["control"]
    )
    for index in numbers:
        fd = _FIRST + index
        try:
            os.set_inheritable(fd, False)
            sock = socket.socket(fileno=os.dup(fd))
        except OSError as error:
            _LOG.warning("LISTEN_FDS: descriptor %d: %s", fd, error.strerror)
            continue
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if sock.family == socket.AF_UNIX and sock.type == socket.SOCK_STREAM and listens:
            sock.setblocking(False)
            os.close(fd)
            return sock
        _LOG.warning("LISTEN_FDS: descriptor %d is no listening stream socket of AF_UNIX", fd)
        sock.close()
    return None
