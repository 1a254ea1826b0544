"""The system call filter: what it refuses, asked of the kernel in a child that it holds for."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from lab import Call
from mptcpd.cli import sandbox
from mptcpd.nl import libc, syscalls
from mptcpd.nl import uapi as u
from mptcpd.nl.syscalls import ABIS, Abi
from tests.nl.test_seccomp import ALLOW, EPERM, KILL, run


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_a_filter_for_every_machine(abi: Abi) -> None:
    """What it says of calls by that machine's numbers, and by those of its kernel's other ABIs."""
    program = sandbox.program(abi, 77)
    assert len(program) <= 4096, "linux/bpf_common.h: BPF_MAXINSNS"
    for other in syscalls.siblings(abi):
        numbers = syscalls.numbers(other)
        for name in ("ptrace", "unshare", "execve", "io_uring_setup"):
            answer = EPERM if other.audit == abi.audit else KILL
            assert run(program, other, numbers[name]) == answer, (other.name, name)
    numbers = syscalls.numbers(abi)
    assert run(program, abi, numbers["tgkill"], 77, 1, 6) == ALLOW
    assert run(program, abi, numbers["tgkill"], 78, 1, 6) == EPERM
    thread, process = 0x3D0F00, 0x1200011  # what glibc passes for each
    order = (0, 1) if abi.kernel != "s390" else (1, 0)
    for flags, answer in ((thread, ALLOW), (process, EPERM)):
        arguments = [0, 0]
        arguments[order[0]] = flags
        arguments[order[1]] = 0xFFFF  # the stack
        assert run(program, abi, numbers["clone"], *arguments) == answer


def test_every_call_is_named_once() -> None:
    calls = [call for group in sandbox.DENIED.values() for call in group]
    assert len(set(calls)) == len(calls)


def inside(function: Callable[[], object]) -> object:
    """What ``function`` returns behind the filter; the errno if it raises OSError."""
    libc.no_new_privileges()
    if not sandbox.close():
        return "no filter"
    try:
        return function()
    except OSError as error:
        return error.errno


def behind(function: Callable[[], object]) -> object:
    answer = Call(inside, function).result()
    if answer == "no filter":
        pytest.skip("no seccomp in this kernel, or no table for this machine")
    return answer


def number(call: str) -> int:
    with open("/proc/self/exe", "rb") as program:
        own = syscalls.of_program(program.read(64))
    assert own is not None
    return syscalls.numbers(own).get(call, -1)


def call(name: str, *arguments: int) -> Callable[[], object]:
    return lambda: libc.syscall(number(name), *arguments)


REFUSED: dict[str, Callable[[], object]] = {
    "a program": lambda: os.execv(sys.executable, [sys.executable]),
    "a fork": os.fork,
    "a child": lambda: subprocess.run([sys.executable, "-c", ""]),
    "a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM),
    "a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "a raw socket without flags": lambda: socket.socket(
        socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 58
    ),
    "a rare family": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "a family with bits above the int": call("socket", 17 | 1 << 32, socket.SOCK_DGRAM, 0),
    "a signal": lambda: os.kill(os.getppid(), 0),
    "a signal to a thread": call("tgkill", os.getppid(), os.getppid(), 0),
    "another's memory": call("process_vm_readv", os.getppid(), 0, 0, 0, 0, 0),
    "a new namespace": call("unshare", u.CLONE_NEWUSER),
    "a trace": call("ptrace", 16, os.getppid(), 0, 0),
    "a ring": call("io_uring_setup", 1, 0),
    "a mount": call("mount", 0, 0, 0, 0, 0),
    "a program for the kernel": call("bpf", 0, 0, 0),
    "a module": call("finit_module", -1, 0, 0),
    "another kernel": call("kexec_load", 0, 0, 0, 0),
    "another's descriptor": call("pidfd_getfd", 0, 0, 0),
    "a key": call("keyctl", 0, 0),
    "another time": call("clock_settime", 0, 0),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    assert behind(REFUSED[what]) == errno.EPERM


def test_clone3_sends_libc_to_clone() -> None:
    assert behind(call("clone3", 0, 0)) == errno.ENOSYS


def a_thread() -> object:
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(1))
    thread.start()
    thread.join()
    return done


def sockets() -> object:
    for family in (socket.AF_UNIX, socket.AF_INET):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK).close()
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0).close()
    return "all"


def test_what_plugins_may_want() -> None:
    assert behind(a_thread) == [1]
    assert behind(sockets) == "all"
    assert behind(lambda: len(os.listdir("/"))) != errno.EPERM


def test_a_program_that_aborts_still_can() -> None:
    """raise(3) is tgkill to ourselves."""
    code = (
        "import os\n"
        "from mptcpd.cli import sandbox\nfrom mptcpd.nl import libc\n"
        "libc.no_new_privileges(); sandbox.close(); os.abort()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGABRT
