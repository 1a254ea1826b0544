"""Asks for a second subflow as soon as a connection of ours is established, and notes when.

At its end it writes CLOCK_MONOTONIC in nanoseconds, a line for each connection: token, when the
hook was called, when the kernel had answered the request. Settings: [join] file, address.
"""

from __future__ import annotations

import time

from mptcpd.core.pm import PathManager
from mptcpd.plugin import Connection, Plugin


class Join(Plugin):
    needs = "userspace"

    def init(self, pm: PathManager) -> None:
        settings = pm.config.section("join")
        self.file, self.address = settings["file"], settings["address"]
        self.times: list[tuple[int, int, int]] = []

    def connection_established(self, connection: Connection, pm: PathManager) -> None:
        if connection.server_side:
            return
        called = time.monotonic_ns()
        pm.create_subflow(connection, self.address, connection.remote, remote_id=0)
        self.times.append((connection.token, called, time.monotonic_ns()))

    def exit(self, pm: PathManager) -> None:
        with open(self.file, "w") as stream:
            for token, called, answered in self.times:
                stream.write(f"{token} {called} {answered}\n")
