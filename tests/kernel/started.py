"""The daemon started as its user would start it, and what the kernel has to show for it."""

from __future__ import annotations

import os
import pathlib
import signal
import sys
from collections.abc import Mapping
from ipaddress import ip_address
from types import MappingProxyType, TracebackType
from typing import NamedTuple, TypeVar

from lab import Host, wait_until
from lab.network import Interface
from mptcpd.nl import mptcp, rtnl_change
from mptcpd.nl import uapi as u

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Shown(NamedTuple):
    """An endpoint of a host's kernel."""

    id: int
    flags: str
    ifindex: int | None


def endpoints(host: Host) -> dict[str, Shown]:
    """IP -> endpoint; the flags as names with commas."""
    found = {}
    for value in host.mptcp.dump_addrs():
        assert value.ip is not None and value.id is not None
        names = ",".join(name for name, bit in mptcp.FLAGS.items() if (value.flags or 0) & bit)
        found[str(ip_address(value.ip))] = Shown(value.id, names, value.ifindex)
    return found


def foreign(host: Host, text: str, ident: int, flags: str = "", ifindex: int | None = None) -> None:
    """Add an endpoint as somebody else would."""
    bits = sum(mptcp.FLAGS[name] for name in flags.split(",") if name)
    host.mptcp.add_addr(mptcp.Address(ip_address(text).packed, 0, ident, bits, ifindex))


def limits(host: Host) -> tuple[int, int]:
    """Subflows and accepted addresses."""
    now = host.mptcp.get_limits()
    return now.subflows, now.add_addr_accepted


def flood(end: Interface, events: int) -> None:
    """Make an address come and go so often."""
    ip = ip_address("10.7.7.7").packed
    add = rtnl_change.add_address(end.ifindex, ip, 32, flags=u.IFA_F_NODAD)
    delete = rtnl_change.delete_address(end.ifindex, ip, 32)
    for _ in range(events // 2):
        end.host.change(add, delete)


Running = TypeVar("Running", bound="Started")


class Started:
    """A running daemon in a host, logging to a file; SIGKILLed at the end if it still runs.

    core       lines for [core] of its configuration file, instead of loading addr_adv alone
    arguments  of the command line
    module     what is run in its place
    also       variables of its environment besides those of this process
    """

    def __init__(
        self,
        host: Host,
        folder: pathlib.Path,
        *arguments: str,
        core: str = "load-plugins=addr_adv",
        module: str = "mptcpd.cli.daemon",
        also: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.host = host
        self.file = folder / "mptcpd.conf"
        # Whatever else runs on this machine: neither its configuration nor its notes are ours.
        self.file.write_text(f"[core]\nruntime-dir={folder}/run\n{core}\n")
        self.file.chmod(0o644)
        self._log = folder / "log"
        with open(self._log, "wb") as log:
            self.process = host.popen(
                [sys.executable, "-m", module, f"--config={self.file}", *arguments],
                cwd=ROOT,
                env={**os.environ, **also},
                stdout=log,
                stderr=log,
            )

    def __enter__(self: Running) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            print(f"The daemon said:\n{self.said}")
        self.process.kill()
        self.process.wait()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def lines(self) -> list[str]:
        return self.said.splitlines()

    def until_said(self, text: str, timeout: float = 10.0) -> None:
        wait_until(lambda: text in self.said, f"the daemon says {text!r}", timeout)

    def until_ready(self) -> None:
        """Wait until it has told its plugins of everything that is there (with --debug only)."""
        self.until_said("ready: plugins")

    def until(self, *ips: str, timeout: float = 10.0) -> dict[str, Shown]:
        """Wait until the kernel's endpoints are those of exactly these IPs; return them."""

        def same() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}")
            return sorted(endpoints(self.host)) == sorted(ips)

        wait_until(same, f"endpoints are {sorted(ips)}", timeout)
        return endpoints(self.host)

    def status(self, timeout: float = 10.0) -> int:
        """Its exit status, once it has ended by itself."""
        return self.process.wait(timeout)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit status, when told to end."""
        self.process.send_signal(number)
        return self.status()

    def switches(self) -> int:
        """How often it went to sleep, or was made to, since it started."""
        with open(f"/proc/{self.pid}/status") as stream:
            fields = dict(line.split(":", 1) for line in stream)
        return int(fields["voluntary_ctxt_switches"]) + int(fields["nonvoluntary_ctxt_switches"])

    def asleep(self) -> bool:
        """Whether it waits for the kernel."""
        with open(f"/proc/{self.pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] == "S"

    def resident(self) -> int:
        """Resident memory in bytes."""
        with open(f"/proc/{self.pid}/statm") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGESIZE")
