"""The daemon as its user starts it, with addr_adv and a plugin that tells all that plugins know.

So its view can be compared with the kernel's: interfaces, addresses, connections and subflows.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import socket
import time
from ipaddress import ip_address

from bench.watched import in_kernel
from lab import Host, wait_until
from mptcpd.core.path import unpack_path
from mptcpd.nl import uapi as u
from tests.kernel.started import ROOT, Started, endpoints

_PORT = 4999  # a listener here asks for the view
_PLUGIN = f'''
import json
import os

from mptcpd.plugin import Plugin


class View(Plugin):
    def init(self, pm):
        self.file = pm.config.section("view")["file"]
        self.told = {{}}

    def new_connection(self, connection, pm): ...
    def connection_closed(self, connection, pm): ...
    def new_subflow(self, connection, subflow, pm): ...
    def subflow_closed(self, connection, subflow, pm): ...
    def listener_closed(self, address, pm): ...

    def new_interface(self, interface, pm):
        assert interface.name not in self.told
        self.told[interface.index] = []

    def delete_interface(self, interface, pm):
        assert self.told.pop(interface.index) == []

    def new_local_address(self, interface, address, pm):
        self.told[interface.index].append(str(address))

    def delete_local_address(self, interface, address, pm):
        self.told[interface.index].remove(str(address))

    def listener_created(self, address, pm):
        if address.port != {_PORT}:
            return
        shown = {{
            "told": {{str(index): sorted(ips) for index, ips in self.told.items()}},
            "interfaces": {{
                str(index): sorted(str(one) for one in each.addresses)
                for index, each in pm.interfaces.items()
            }},
            "connections": {{
                f"{{token:08x}}": sorted(
                    f"{{flow.local}} {{flow.remote}}" for flow in each.subflows.values()
                )
                for token, each in pm.connections.items()
            }},
        }}
        with open(self.file + ".new", "w") as stream:
            json.dump(shown, stream)
        os.rename(self.file + ".new", self.file)
'''

View = dict[str, dict[str, list[str]]]


class Viewed(Started):
    """A running daemon that can be asked for its view. ``confine``: as in ``confined``."""

    def __init__(
        self, host: Host, folder: pathlib.Path, *confine: str, core: str = "", debug: bool = False
    ) -> None:
        plugins = folder / "plugins"
        if not plugins.exists():
            plugins.mkdir(mode=0o755)
            (plugins / "view.py").write_text(_PLUGIN)
            shutil.copy(ROOT / "plugins" / "addr_adv.py", plugins)
            for file in plugins.iterdir():
                file.chmod(0o644)
        self._view = folder / "view"
        super().__init__(
            host,
            folder,
            *(["--debug"] if debug else []),
            *(f"confine:{word}" for word in confine),
            core=f"plugin-dir={plugins}\nload-plugins=view,addr_adv\npath-manager=view\n"
            f"hold-down-return=0\n{core}\n[view]\nfile={self._view}",
            module="tests.kernel.confined" if confine else "mptcpd.cli.daemon",
        )

    def __enter__(self) -> Viewed:
        return self

    def view(self, timeout: float = 15.0) -> View:
        """What its plugins know now. Errors: TimeoutError; AssertionError if it has ended."""
        self._view.unlink(missing_ok=True)
        ends = time.monotonic() + timeout
        while True:
            # Asked again and again: it may not be ready, or the kernel may have dropped the event.
            with self.host, socket.socket(
                socket.AF_INET, socket.SOCK_STREAM, u.IPPROTO_MPTCP
            ) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", _PORT))
                listener.listen(1)
            for _look in range(40):
                if self._view.exists():
                    found: View = json.loads(self._view.read_text())
                    return found
                if self.process.poll() is not None:
                    raise AssertionError(f"it ended with {self.process.returncode}:\n{self.said}")
                time.sleep(0.005)
            if time.monotonic() > ends:
                raise TimeoutError(f"no view from the daemon, which said:\n{self.said}")

    def until_equal(self, timeout: float = 15.0) -> View:
        """Wait until its view is the kernel's, and the endpoints are those of its addresses."""
        deadline = time.monotonic() + timeout
        while (view := self.view()) != (there := truth(self.host)):
            if time.monotonic() > deadline:
                raise AssertionError(f"{view} instead of {there}; it said:\n{self.said[-3000:]}")
            time.sleep(0.02)
        ips = {ip for addresses in view["interfaces"].values() for ip in addresses}
        wait_until(lambda: set(endpoints(self.host)) >= ips, f"endpoints for {ips}")
        return view


def truth(host: Host) -> View:
    """What the kernel has, as plugins should know it."""
    interfaces: dict[str, list[str]] = {
        str(link.ifindex): []
        for link in host.network.links()
        if link.flags & u.IFF_RUNNING and link.flags & u.IFF_UP and link.type != u.ARPHRD_LOOPBACK
    }
    for address in host.network.addresses():
        if str(address.ifindex) in interfaces and address.scope == u.RT_SCOPE_UNIVERSE:
            interfaces[str(address.ifindex)].append(str(ip_address(address.ip)))
    shown = {index: sorted(set(ips)) for index, ips in interfaces.items()}
    connections = {}
    for token, paths in in_kernel(host).items():
        ends = [unpack_path(path) for path in paths]
        connections[f"{token:08x}"] = sorted(f"{local} {remote}" for local, remote in ends)
    return {"told": shown, "interfaces": shown, "connections": connections}
