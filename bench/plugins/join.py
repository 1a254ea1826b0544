"""Asks for a second subflow as soon as a connection of ours is established, and notes when.

At its end it writes CLOCK_MONOTONIC in nanoseconds, a line for each connection: token, when the
hook was called, when the request was handed to the kernel. Settings: [join] file, address.
"""

from __future__ import annotations

import time
from typing import Any

from mptcpd.core.pm import PathManager
from mptcpd.plugin import Connection, Plugin


class Join(Plugin):
    needs = "userspace"

    def init(self, pm: PathManager) -> None:
        settings = pm.config.section("join")
        self.file, self.address = settings["file"], settings["address"]
        self.times: list[tuple[int, int, int]] = []
        self.requested = 0
        # Nobody but the command socket knows when it sends; the kernel answers only when it has
        # sent the SYN of the new subflow and, over loopback, got the answer to that as well.
        commands: Any = pm.create_subflow
        self.socket = commands.__self__._kernel._commands.inner
        self.send = self.socket._send
        self.socket._send = self.note

    def note(self, request: bytes) -> None:
        self.requested = time.monotonic_ns()
        self.send(request)

    def connection_established(self, connection: Connection, pm: PathManager) -> None:
        if not connection.server_side:
            called = time.monotonic_ns()
            pm.create_subflow(connection, self.address, connection.remote, remote_id=0)
            self.times.append((connection.token, called, self.requested))

    def exit(self, pm: PathManager) -> None:
        with open(self.file, "w") as stream:
            for token, called, requested in self.times:
                stream.write(f"{token} {called} {requested}\n")
