"""The right to make network namespaces, and a kernel with MPTCP: what the lab stands on.

Root has the right. An ordinary user gets it inside a user namespace, which this process then enters
for good: it stays its own user towards the rest of the system, but is root (uid 0) in its own eyes
and over the network namespaces it makes.
"""

from __future__ import annotations

import errno
import os

from mptcpd.nl.namespaces import unshare
from mptcpd.nl.uapi import CLONE_NEWNET, CLONE_NEWUSER

ENABLED = "/proc/sys/net/mptcp/enabled"
# Switches that take the right from ordinary users: file, the value that does, what to do about it.
_SWITCHES = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl -w {}=0"),
    ("kernel/unprivileged_userns_clone", "0", "sysctl -w {}=1"),
    ("user/max_user_namespaces", "0", "sysctl -w {}=10000"),
    ("user/max_net_namespaces", "0", "sysctl -w {}=10000"),
)


class Missing(Exception):
    """This machine lacks something: one line that says what, and what to install or change."""


def enter() -> None:
    """Get the right to make network namespaces; the second call and later ones do nothing.

    A child tries it first: where it fails, this process is left as it was.
    Errors  Missing.
    """
    global _entered_by
    if _entered_by == os.getpid():
        return
    answer = _try_in_child()
    if answer not in (_AS_ROOT, _AS_USER):
        raise Missing(answer)
    if answer == _AS_USER:
        enter_user_namespace()
        # The namespace we came from belongs to others and cannot be entered again from here; this
        # one can, and is where code outside of every host runs.
        unshare(CLONE_NEWNET)
    _entered_by = os.getpid()


_entered_by = 0  # the process that has the right; a child of it finds out for itself
_AS_ROOT, _AS_USER = "as root", "as a user"


def _try() -> str:
    """Run in a child: how it can be done, or in words why not."""
    how = _AS_ROOT
    try:
        try:
            unshare(CLONE_NEWNET)
        except PermissionError:
            how = _AS_USER
            enter_user_namespace()
            unshare(CLONE_NEWNET)
    except OSError as error:
        return _refusal(error)
    if not os.path.exists(ENABLED):
        return (
            "this kernel has no MPTCP (no net.mptcp.enabled): it needs Linux 5.6 or newer, "
            "built with CONFIG_MPTCP"
        )
    try:
        # New namespaces begin with 1, whatever the machine's own has; what may fail is the right.
        with open(ENABLED, "w") as stream:
            stream.write("1")
    except OSError as error:
        return (
            f"settings below /proc/sys/net cannot be changed ({error.strerror}): in a container, "
            "mount /proc/sys writable"
        )
    return how


def _refusal(error: OSError) -> str:
    text = f"no right to make namespaces ({error.strerror}): run as root"
    for file, off, advice in _SWITCHES:
        try:
            with open(f"/proc/sys/{file}") as stream:
                value = stream.read().strip()
        except OSError:
            continue  # a switch that only some distributions' kernels have
        if value == off:
            command = advice.format(file.replace("/", "."))
            return f"{text}, or let ordinary users make them: {command}"
    if error.errno in (errno.EINVAL, errno.ENOSYS):
        return f"{text}, or take a kernel with CONFIG_USER_NS and CONFIG_NET_NS"
    return f"{text}, or allow user namespaces (a container's seccomp profile may forbid them)"


def enter_user_namespace() -> None:
    """Become uid 0 of a user namespace with no other users in it. Errors: OSError."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    # In this order: a group may be mapped only once setgroups(2) is given up (user_namespaces(7)).
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{file}", "w") as stream:
            stream.write(text)


def _try_in_child() -> str:
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(write, _try().encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as stream:
        answer = stream.read()
    os.waitpid(pid, 0)
    return answer or "the attempt to make namespaces ended without an answer"
