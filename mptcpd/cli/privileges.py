"""Gives up what a path manager does not need: users, groups, capabilities.

Knows    which capabilities are kept and why, what a user's name means, and the order of the steps.
Not      how the kernel is asked (``nl.capabilities``), nor which system calls are left.
Source   capabilities(7), credentials(7).

CAP_NET_ADMIN is what every command and the multicast group of events need; CAP_NET_BIND_SERVICE is
for listening sockets below port 1024, and kept where the configuration says that there are such.
Root keeps its user ID unless ``user=`` names another, but no right beyond these and its own files.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
from typing import NamedTuple

from mptcpd.core.config import Config
from mptcpd.nl import capabilities, libc
from mptcpd.nl.capabilities import Sets
from mptcpd.nl.uapi import CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_SETGID, CAP_SETPCAP

_LOG = logging.getLogger("mptcpd")
_STATUS = "/proc/self/status"


class PrivilegeError(Exception):
    """There are not the rights that are needed, or they cannot be given up; the text says why."""


class User(NamedTuple):
    """Whom to run as: user ID, its own group, and all of its groups."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def user(name: str) -> User:
    """What the system's user database says of ``name``. Errors: PrivilegeError."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise PrivilegeError(f'user={name}: there is no user of this name.') from None
    groups = tuple(os.getgrouplist(name, found.pw_gid))
    return User(name, found.pw_uid, found.pw_gid, groups)


def wanted(config: Config) -> int:
    """The capabilities to keep, as bits."""
    return 1 << CAP_NET_ADMIN | (1 << CAP_NET_BIND_SERVICE if config.low_ports else 0)


def give_up(config: Config) -> None:
    """Keep the capabilities that are wanted, in the sets where they work, and nothing else.

    Works the same for root and for an ordinary user who was granted CAP_NET_ADMIN, except that
    only CAP_SETPCAP may narrow the bounding set; no_new_privs makes that set mean nothing.
    Errors  PrivilegeError. Then the process is to end: some of the steps may have been done.
    """
    had = capabilities.get()
    keep = wanted(config) & had.permitted
    if not keep >> CAP_NET_ADMIN & 1:
        raise PrivilegeError(
            "mptcpd needs the privilege CAP_NET_ADMIN.\n"
            "Start it as root, or grant it (systemd: AmbientCapabilities=CAP_NET_ADMIN)."
        )
    if keep != wanted(config):
        _LOG.warning("low-ports=yes: CAP_NET_BIND_SERVICE was not granted.")
    try:
        # What is permitted may be used: some of the steps need more than is effective.
        capabilities.put(Sets(had.permitted, had.permitted, had.inheritable))
        if had.permitted >> CAP_SETPCAP & 1:
            for number in list(capabilities.bounding()):
                if not keep >> number & 1:
                    capabilities.drop_bounding(number)
        _become(config.user, had.permitted)
        capabilities.clear_ambient()
        capabilities.put(Sets(keep, keep))
        libc.no_new_privileges()
    except OSError as error:
        raise PrivilegeError(f"Unable to give up privileges: {error.strerror}.") from error


def _become(name: str | None, permitted: int) -> None:
    """Change to the user of the configuration, with the permitted capabilities kept meanwhile."""
    target = None if name is None else user(name)
    if target is None or target.uid == os.geteuid():
        # A group may open files that root alone could not: who may change them has none.
        if permitted >> CAP_SETGID & 1 and _may_set_groups():
            os.setgroups(() if target is None else target.groups)
        return
    try:
        capabilities.keep_over_setuid(True)
        os.setgroups(target.groups)
        os.setresgid(target.gid, target.gid, target.gid)
        os.setresuid(target.uid, target.uid, target.uid)
        capabilities.keep_over_setuid(False)
    except OSError as error:
        raise PrivilegeError(
            f"user={name}: user {os.geteuid()}, who started mptcpd, cannot become user "
            f"{target.uid}: {error.strerror}."
        ) from error


def _may_set_groups() -> bool:
    """False in a user namespace that an ordinary user made (user_namespaces(7))."""
    try:
        with open("/proc/self/setgroups", encoding="ascii") as stream:
            return stream.read().strip() == "allow"
    except OSError:  # a kernel without user namespaces
        return True


def left() -> str:
    """In words, which powers this process has left; for --debug. Source: proc(5), status."""
    with open(_STATUS, encoding="utf-8", errors="replace") as stream:
        lines = (line.split(":", 1) for line in stream)
        fields = {name: value.strip() for name, value in lines}
    sets = ", ".join(
        f"{word} {capabilities.words(int(fields[name], 16))}"
        for word, name in (
            ("effective", "CapEff"),
            ("permitted", "CapPrm"),
            ("inheritable", "CapInh"),
            ("bounding", "CapBnd"),
            ("ambient", "CapAmb"),
        )
    )
    switches = {"0": "no", "1": "yes"}
    filters = {"0": "no", "2": f"yes ({fields.get('Seccomp_filters', '?')})"}
    return (
        f"powers left: user {os.geteuid()}, group {os.getegid()}"
        f" (also {_group_names()}); capabilities {sets};"
        f" no_new_privs {switches.get(fields.get('NoNewPrivs', ''), '?')};"
        f" system call filter {filters.get(fields.get('Seccomp', ''), '?')}"
    )


def _group_names() -> str:
    names = []
    for gid in os.getgroups():
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            names.append(str(gid))
    return ", ".join(names) or "no other"
