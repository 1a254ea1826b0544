"""Has the kernel refuse the system calls that a path manager never needs.

Knows    which calls those are, and why.
Not      what a filter is made of (``nl.seccomp``), nor what rights are left (``privileges``).
Source   seccomp(2); the groups of systemd.exec(5), SystemCallFilter=.

A refused call fails with EPERM, and is not the daemon's death: it is most likely a plugin's, whose
exception is logged with plugin and hook, while the paths of all connections stay managed. Nothing
is gained by such a call either way. Only a call in the way of another kind of program (a 64-bit
kernel also takes those of 32-bit ones) ends the process: no code of ours makes one.

A list of what is refused, and not of what is allowed: that would be the calls of one version of
one libc and one Python, and plugins may have files and sockets of their own.
"""

from __future__ import annotations

import errno
import logging
import os
import socket

from mptcpd.nl import libc, seccomp, syscalls
from mptcpd.nl import uapi as u
from mptcpd.nl.bpf import Instruction
from mptcpd.nl.seccomp import Argument, Rule

_LOG = logging.getLogger("mptcpd")
_PROGRAM = "/proc/self/exe"
_EPERM = seccomp.errno_action(errno.EPERM)
_ALLOW = u.SECCOMP_RET_ALLOW

# What is refused, whatever the arguments; by what it would give to who has taken over the daemon.
DENIED: dict[str, tuple[str, ...]] = {
    "other programs": ("execve", "execveat", "fork", "vfork", "uselib"),
    "other processes": (
        *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp"),
        *("pidfd_getfd", "pidfd_send_signal", "kill", "tkill", "rt_sigqueueinfo"),
        "rt_tgsigqueueinfo",
    ),
    "files out of their place": (
        *("mount", "umount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount"),
        *("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "setns", "unshare"),
        *("open_by_handle_at", "name_to_handle_at", "fanotify_init", "mknod", "mknodat"),
        *("swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "nfsservctl"),
    ),
    "the kernel's own code": (
        *("init_module", "finit_module", "delete_module", "create_module", "query_module"),
        *("kexec_load", "kexec_file_load", "reboot", "bpf", "perf_event_open", "lookup_dcookie"),
        "syslog",
    ),
    # io_uring would carry out what is refused here: no filter sees the calls in its queue.
    "ways around": ("io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd"),
    "keys": ("add_key", "request_key", "keyctl"),
    "the machine": (
        *("settimeofday", "stime", "clock_settime", "clock_settime64", "adjtimex"),
        *("clock_adjtime", "clock_adjtime64", "sethostname", "setdomainname", "vhangup"),
        *("iopl", "ioperm", "modify_ldt", "vm86", "vm86old", "personality", "sysfs", "ustat"),
        "_sysctl",
    ),
}
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
_TYPES = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
_FLAGS = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK


def rules(own: syscalls.Abi, pid: int) -> list[Rule]:
    """The rules for a process ``pid`` whose program is of kind ``own``; first one counts."""
    flags = 1 if own.kernel == "s390" else 0  # where clone(2) has its flags
    found = [
        # Threads are fine, processes are not. Of clone3 the filter cannot see the flags: libc takes
        # ENOSYS for an old kernel, and falls back to clone.
        Rule("clone", _EPERM, (Argument(flags, (0,), ignore=~u.CLONE_THREAD & 0xFFFFFFFF),)),
        Rule("clone3", seccomp.errno_action(errno.ENOSYS)),
        # abort(3) and raise(3) are for ourselves.
        Rule("tgkill", _ALLOW, (Argument(0, (pid,)),)),
        Rule("tgkill", _EPERM),
        # No raw sockets, except netlink's, which have the same type; no packet sockets; and none of
        # the many families whose code is seldom used and seldom looked at.
        Rule("socket", _ALLOW, (Argument(0, FAMILIES), Argument(1, _TYPES, ignore=_FLAGS))),
        Rule("socket", _ALLOW, (Argument(0, (socket.AF_NETLINK,)),)),
        Rule("socket", _EPERM),
    ]
    found += [Rule(call, _EPERM) for calls in DENIED.values() for call in calls]
    # socketcall is not among them: its arguments are in memory, where no filter looks, and where it
    # exists (32-bit x86, s390) libc may know no other way to make a socket.
    return found


def program(own: syscalls.Abi, pid: int) -> list[Instruction]:
    """The filter. ABIs that filters cannot tell apart by name (x86-64, x32) all have the rules."""
    same = [abi for abi in syscalls.siblings(own) if abi.audit == own.audit]
    foreign = u.SECCOMP_RET_KILL_PROCESS
    return seccomp.program(same, rules(own, pid), default=_ALLOW, foreign=foreign)


def close() -> bool:
    """Refuse those calls from now on, for ever; needs no_new_privs. False, and said, if it cannot.

    A kernel without seccomp, or a machine that the table lacks, is no reason not to start.
    """
    try:
        with open(_PROGRAM, "rb") as file:
            own = syscalls.of_program(file.read(64))
        if own is None:
            _LOG.warning("No system call filter: this kind of machine is not known.")
            return False
        libc.seccomp(syscalls.numbers(own)["seccomp"], program(own, os.getpid()))
    except OSError as error:
        _LOG.warning("No system call filter: %s.", error.strerror)
        return False
    return True
