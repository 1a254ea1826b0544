"""Counts connections, and tells what the daemon knows when it is asked to.

It is asked by a listener: whenever somebody listens at ``port``, the plugin writes ``file``, first
under another name, so that the file is whole once it is there:

    opened N established N closed N
    TOKEN PATH PATH...        a line for each connection in the table, in hexadecimal digits

A path is local IP, local port, remote IP, remote port, packed. Settings: [count] file, port.
"""

from __future__ import annotations

import os

from mptcpd.core.pm import PathManager
from mptcpd.plugin import Connection, Plugin, SockAddr, Subflow


class Count(Plugin):
    def init(self, pm: PathManager) -> None:
        settings = pm.config.section("count")
        self.file, self.port = settings["file"], int(settings["port"])
        self.opened = self.were_established = self.closed = 0

    def new_connection(self, connection: Connection, pm: PathManager) -> None:
        self.opened += 1

    def connection_established(self, connection: Connection, pm: PathManager) -> None:
        self.were_established += 1

    def connection_closed(self, connection: Connection, pm: PathManager) -> None:
        self.closed += 1

    def new_address(
        self, connection: Connection, remote_id: int, address: SockAddr, pm: PathManager
    ) -> None: ...

    def address_removed(self, connection: Connection, remote_id: int, pm: PathManager) -> None: ...

    def new_subflow(self, connection: Connection, subflow: Subflow, pm: PathManager) -> None: ...

    def subflow_closed(self, connection: Connection, subflow: Subflow, pm: PathManager) -> None: ...

    def subflow_priority(
        self, connection: Connection, subflow: Subflow, pm: PathManager
    ) -> None: ...

    def listener_closed(self, address: SockAddr, pm: PathManager) -> None: ...

    def listener_created(self, address: SockAddr, pm: PathManager) -> None:
        if address.port != self.port:
            return
        with open(self.file + ".new", "w") as stream:
            counts = f"opened {self.opened} established {self.were_established}"
            stream.write(f"{counts} closed {self.closed}\n")
            for token, connection in pm.connections.items():
                paths = " ".join(path.hex() for path in connection.paths())
                stream.write(f"{token:08x} {paths}\n")
        os.rename(self.file + ".new", self.file)
