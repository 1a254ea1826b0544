"""One host: a network namespace held by its descriptor, with what runs and is opened inside."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from typing import Any

from lab import process, rights
from mptcpd.nl import rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.change_client import ChangeClient
from mptcpd.nl.client import MptcpClient, RouteClient
from mptcpd.nl.namespaces import setns, unshare
from mptcpd.nl.rtnl_change import Change, set_link
from mptcpd.nl.sock import CommandSocket


class Host:
    """A host of its own: interfaces, addresses, routes, sysctls, MPTCP endpoints and limits.

    ``with host:`` runs code inside; sockets opened there stay there. Blocks may be nested. ``lo``
    is up, reverse path filtering off (hosts with several links answer on any of them), and so is
    the search for duplicate addresses, which would keep IPv6 ones tentative for a second or two.

    fd       descriptor of the namespace, valid until ``close``
    network  its links, addresses and routes (RouteClient)
    """

    def __init__(self, name: str) -> None:
        """Errors: ``rights.Missing``."""
        rights.enter()
        self.name = name
        self.fd = -1
        self._before: list[int] = []
        self._children: list[subprocess.Popen[Any] | process.Call] = []
        self._sockets: list[CommandSocket] = []
        self._mptcp: MptcpClient | None = None
        try:
            self._commands = self._born()
            self.network = RouteClient(self._commands)
            self._changes = ChangeClient(self._commands)
            self.change(set_link(self.ifindex("lo"), up=True))
            for which in ("all", "default"):
                self.set_sysctl(f"net.ipv4.conf.{which}.rp_filter", 0)
                if self.has_ipv6:
                    self.set_sysctl(f"net.ipv6.conf.{which}.accept_dad", 0)
        except BaseException:
            self.close()
            raise

    def _born(self) -> CommandSocket:
        """Make the namespace, and a socket of NETLINK_ROUTE in it."""
        before = _here()
        try:
            unshare(u.CLONE_NEWNET)
            try:
                self.fd = _here()
                return self._opened(u.NETLINK_ROUTE)
            finally:
                setns(before, u.CLONE_NEWNET)
        finally:
            os.close(before)

    def __enter__(self) -> Host:
        self._before.append(_here())
        setns(self.fd, u.CLONE_NEWNET)
        return self

    def __exit__(self, *_error: object) -> None:
        before = self._before.pop()
        try:
            setns(before, u.CLONE_NEWNET)
        finally:
            os.close(before)

    def __repr__(self) -> str:
        return f"<host {self.name}>"

    @property
    def mptcp(self) -> MptcpClient:
        """The endpoints and limits of its kernel path manager."""
        if self._mptcp is None:
            with self:
                self._mptcp = MptcpClient(self._opened(u.NETLINK_GENERIC))
        return self._mptcp

    @property
    def has_ipv6(self) -> bool:
        with self:
            return os.path.exists("/proc/sys/net/ipv6")

    def change(self, *changes: Change) -> None:
        """Change links, addresses, routes: ``host.change(rtnl_change.delete_link(2))``."""
        for change in changes:
            self._changes.make(change)

    def ifindex(self, name: str) -> int:
        """The number of an interface. Errors: OSError if there is none of this name."""
        with self:
            return socket.if_nametoindex(name)

    def link(self, ifindex: int) -> rtnl.Link:
        """The state and the byte counters of an interface as they are now."""
        answers = self._commands.request(
            u.RTM_GETLINK, rtnl.get_link(ifindex), "RTM_GETLINK", flags=0, header=rtnl.IFINFOMSG
        )
        return rtnl.parse_link(u.RTM_NEWLINK, answers[0])

    def sysctl(self, name: str) -> str:
        """The value of a setting, by its name with dots: ``net.mptcp.enabled``."""
        with self, open(_file(name)) as stream:
            return stream.read().strip()

    def set_sysctl(self, name: str, value: object) -> None:
        """Change a setting of this host alone (those below ``net``). Errors: OSError."""
        with self, open(_file(name), "w") as stream:
            stream.write(str(value))

    def popen(self, args: list[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program inside; options as for ``subprocess.Popen``. ``close`` kills it."""
        with self:
            child = process.start(args, **options)
        self._children.append(child)
        return child

    def call(self, function: Callable[..., Any], *args: object) -> process.Call:
        """Start a function in a child process inside; ``close`` kills it."""
        with self:
            call = process.Call(function, *args)
        self._children.append(call)
        return call

    def close(self) -> None:
        """Kill what was started inside and let the namespace go. Harmless when repeated."""
        while self._children:
            child = self._children.pop()
            if isinstance(child, process.Call):
                child.stop()
            else:
                process.stop(child)
        while self._sockets:
            self._sockets.pop().close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _opened(self, protocol: int) -> CommandSocket:
        commands = CommandSocket(protocol)
        self._sockets.append(commands)
        return commands


def _here() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _file(sysctl: str) -> str:
    return "/proc/sys/" + sysctl.replace(".", "/")
