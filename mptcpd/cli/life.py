"""What surrounds the daemon's work: alone in its network namespace, with few powers, in a file.

Knows    the order of these steps at start and end.
Not      how each of them is done (``instance``, ``detach``, ``privileges``, ``sandbox``).

The order: the mark and the file while we may still write anywhere; then powers are given up; only
then does code of plugins run, so that it meets the same rights at the start and after a reload.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from mptcpd.cli import log, privileges, runtime, sandbox
from mptcpd.cli.detach import Detached, PidFile, detach
from mptcpd.cli.instance import AlreadyRunning, Instance
from mptcpd.cli.options import Options
from mptcpd.core.config import Config
from mptcpd.core.loop import Loop

_LOG = logging.getLogger("mptcpd")


class StartError(Exception):
    """The daemon cannot start; the lines say why and what to do."""


class Background:
    """The daemon in the background, if the command line says so; else nothing."""

    def __init__(self, wanted: bool) -> None:
        """Errors: OSError, of fork(2)."""
        self._detached: Detached | None = None
        self._end_echo: Callable[[], None] | None = None
        if wanted:
            self._detached = detach()
            self._end_echo = log.echo()

    def ready(self) -> None:
        """The daemon works: whoever started it may go on."""
        if self._detached is not None and self._end_echo is not None:
            if not logging.getLogger().isEnabledFor(logging.WARNING):
                _LOG.warning("No messages from here on: nobody listens at %s.", log.SYSLOG_SOCKET)
            self._end_echo()
            self._detached.ready()
            self._detached = None


class Life:
    """From the check that we are alone until the end."""

    def __init__(self) -> None:
        self._instance: Instance | None = None
        self._pidfile: PidFile | None = None

    def begin(
        self, said: Options, config: Config, while_mighty: Callable[[], object] = lambda: None
    ) -> None:
        """Do all that; ``close`` takes it back as far as it can be.

        while_mighty  called when we know that we are alone, and still may do everything
        Errors        StartError, OSError, and what ``while_mighty`` raises
        """
        try:
            self._instance = Instance()
            if said.pidfile is not None:
                self._pidfile = _pidfile(said.pidfile)
            while_mighty()
            _settle(config)
        except (AlreadyRunning, privileges.PrivilegeError) as error:
            raise StartError(str(error)) from error
        if said.sandbox:
            sandbox.close()

    def watch(self, loop: Loop) -> None:
        """Turn away, from the loop, who knocks at the mark."""
        if self._instance is not None:
            self._instance.watch(loop)

    def close(self) -> None:
        """Take the file away, and let another daemon start. Harmless when repeated."""
        if self._pidfile is not None:
            self._pidfile.remove()
            self._pidfile = None
        if self._instance is not None:
            self._instance.close()
            self._instance = None


def _settle(config: Config) -> None:
    """Give up what is not needed, with the runtime directory in the right hands."""
    uid, gid = os.geteuid(), os.getegid()
    if config.user is not None:
        user = privileges.user(config.user)
        uid, gid = user.uid, user.gid
    runtime.hand_over(config.runtime_dir, uid, gid)
    privileges.give_up(config)


def _pidfile(file: str) -> PidFile:
    try:
        return PidFile(file)
    except OSError as error:
        raise StartError(f"--pidfile: {file}: {error.strerror}") from error
