"""pm: which path manager new connections of this namespace get, and who else looks after them.

Knows the sysctls and the list of subscribers; must not know what a path manager does.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.endpoint import client
from mptcpd.cli.ctl.errors import REFUSED, Failure
from mptcpd.nl import netlink_diag
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import NetlinkError
from mptcpd.nl.sock import CommandSocket

DIRECTORY = "/proc/sys/net/mptcp"
# The files in order of preference (Linux 6.15, 5.19), with what each says for which path manager.
_FILES = {
    "path_manager": {"kernel": "kernel", "userspace": "userspace"},
    "pm_type": {"kernel": "0", "userspace": "1"},
}
_WORDS = {"kernel": "the kernel's own path manager", "userspace": "the userspace path manager"}


class Subscriber(NamedTuple):
    """Who is subscribed to MPTCP's events. pid and name are None where we may not see them."""

    pid: int | None
    name: str | None


def show(call: Call) -> int:
    """Print the path manager, who is subscribed, the limits and how many endpoints there are."""
    kernel = client()
    file, name = setting()
    enabled = _read("enabled") == "1"
    found = subscribers(kernel.events_group)
    limits, endpoints = kernel.get_limits(), len(kernel.dump_addrs())
    if call.settings.json:
        listed = None if found is None else [one._asdict() for one in found]
        call.out.json({
            "enabled": enabled, "path_manager": name, "subscribers": listed,
            "limits": limits._asdict(), "endpoints": endpoints,
        })  # fmt: skip
        return 0
    if not enabled:
        call.out.line("MPTCP is switched off here (net.mptcp.enabled=0).")
    source = "" if file is None else f" (net.mptcp.{file}={_read(file)})"
    call.out.line(f"new connections get: {_WORDS.get(name, name)}{source}")
    call.out.line(f"subscribed to events: {_spelled(found)}")
    if name == "userspace" and found == []:
        call.out.line("  so the kernel refuses the peers' joins, until a daemon is subscribed")
    values = " ".join(f"{key} {value}" for key, value in limits._asdict().items())
    call.out.line(f"limits: {values}")
    call.out.line(f"endpoints: {endpoints}")
    return 0


def choose(call: Call) -> int:
    """Make one the path manager of new connections; those that exist keep theirs."""
    wanted = call.args["pm"]
    file, name = setting()
    if file is None and wanted != name:
        raise Failure(
            "Error: this kernel has only its own path manager (the userspace one: Linux 5.19).",
            REFUSED,
        )
    if file is not None:
        try:
            with open(os.path.join(DIRECTORY, file), "w", encoding="ascii") as stream:
                stream.write(_FILES[file][wanted])
        except OSError as error:
            raise Failure(
                f"Error: net.mptcp.{file} cannot be changed: {error.strerror}.", REFUSED
            ) from None
    return 0


def setting() -> tuple[str | None, str]:
    """The sysctl that says it, None where there is none; and "kernel", "userspace" or another."""
    for file, values in _FILES.items():
        said = _read(file)
        if said is not None:
            return file, {value: name for name, value in values.items()}.get(said, said)
    return None, "kernel"


def subscribers(group: int) -> list[Subscriber] | None:
    """Who in this network namespace is subscribed to a group; None if the kernel does not tell.

    The kernel without CONFIG_NETLINK_DIAG does not; processes of others are nameless without root.
    """
    commands = CommandSocket(u.NETLINK_SOCK_DIAG)
    try:
        answers = commands.dump(
            u.SOCK_DIAG_BY_FAMILY, netlink_diag.request(u.NETLINK_GENERIC), "SOCK_DIAG_BY_FAMILY",
            header=netlink_diag.REQUEST,
        )  # fmt: skip
    except NetlinkError:
        return None
    finally:
        commands.close()
    sockets = (netlink_diag.parse(answer) for answer in answers)
    inodes = {socket.inode for socket in sockets if group in socket.groups}
    return _owners(inodes) if inodes else []


def _owners(inodes: set[int]) -> list[Subscriber]:
    """The processes that have these sockets open."""
    files = {f"socket:[{inode}]": inode for inode in inodes}
    found, seen = [], set()
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            folder = f"/proc/{entry}/fd"
            for fd in os.listdir(folder):
                with contextlib.suppress(OSError):
                    inode = files.get(os.readlink(f"{folder}/{fd}"))
                    if inode is not None:
                        seen.add(inode)
                        with open(f"/proc/{entry}/comm", encoding="utf-8", errors="replace") as f:
                            found.append(Subscriber(int(entry), f.read().rstrip("\n")))
    found += [Subscriber(None, None)] * (len(inodes) - len(seen))
    return found


def _spelled(found: list[Subscriber] | None) -> str:
    if found is None:
        return "unknown (this kernel does not tell: CONFIG_NETLINK_DIAG)"
    if not found:
        return "nobody"
    return ", ".join(
        "a process that only root can name" if one.pid is None else f"{one.name} (pid {one.pid})"
        for one in found
    )


def _read(file: str) -> str | None:
    try:
        with open(os.path.join(DIRECTORY, file), encoding="ascii", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return None
