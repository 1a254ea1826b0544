"""Filters for system calls: run by a small machine of our own, and by the kernel in a child."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence

import pytest

from mptcpd.nl import libc, seccomp, syscalls
from mptcpd.nl import uapi as u
from mptcpd.nl.bpf import Instruction
from mptcpd.nl.seccomp import Argument, Rule
from mptcpd.nl.syscalls import ABIS, Abi

ALLOW, ASK, KILL = u.SECCOMP_RET_ALLOW, u.SECCOMP_RET_USER_NOTIF, u.SECCOMP_RET_KILL_PROCESS
EPERM = seccomp.errno_action(errno.EPERM)


def data(abi: Abi, number: int, *args: int) -> bytes:
    """A struct seccomp_data as that ABI's kernel has it."""
    order = "<" if abi.little else ">"
    args += (0xDEADBEEFDEADBEEF,) * (6 - len(args))
    return struct.pack(f"{order}iIQ6Q", number, abi.audit, 1 << 40, *args)


def run(program: Sequence[Instruction], abi: Abi, number: int, *args: int) -> int:
    """What the program returns, in at most so many steps as it has: no jump goes back."""
    seen, order = data(abi, number, *args), "little" if abi.little else "big"
    accumulator = place = 0
    for _step in range(len(program)):
        code, jump_true, jump_false, constant = program[place]
        place += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            assert constant % 4 == 0 and constant <= 60, "the kernel refuses this load"
            accumulator = int.from_bytes(seen[constant : constant + 4], order)  # type: ignore[arg-type]
        elif code == 0x54:  # BPF_ALU | BPF_AND | BPF_K
            accumulator &= constant
        elif code == 0x05:  # BPF_JMP | BPF_JA
            place += constant
        elif code == 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
            place += jump_true if accumulator == constant else jump_false
        elif code == 0x06:  # BPF_RET | BPF_K
            return constant
        else:
            raise AssertionError(f"code {code:#x}")
    raise AssertionError("no end")


STREAM = Rule(
    "socket", ASK, (Argument(0, (2, 10)), Argument(1, (1,), ignore=0o2004000), Argument(2, (0, 6)))
)
WANTED: list[tuple[tuple[int, int, int], bool]] = [
    ((2, 1, 0), True),
    ((10, 1, 6), True),
    ((2, 1 | 0o2000000, 0), True),
    ((2, 1 | 0o2004000, 6), True),
    ((1, 1, 0), False),
    ((2, 2, 0), False),
    ((2, 1, 262), False),
    ((2, 1 | 0o1000000, 0), False),
    ((2 | 7 << 32, 1 | 7 << 32, 7 << 32), True),  # what the kernel does not look at
]


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_arguments(abi: Abi) -> None:
    program = seccomp.program(syscalls.siblings(abi), [STREAM], default=ALLOW, foreign=KILL)
    number = syscalls.numbers(abi)["socket"]
    for args, wanted in WANTED:
        assert run(program, abi, number, *args) == (ASK if wanted else ALLOW), args
        assert run(program, abi, number + 1, *args) == ALLOW


def test_every_call_by_every_abi() -> None:
    """A filter of all names answers for just those, whatever their number, and foreigners die."""
    rules = [Rule(name, EPERM) for name in sorted(syscalls.names())]
    for abi in ABIS:
        family = syscalls.siblings(abi)
        program = seccomp.program(family, rules, default=ALLOW, foreign=KILL)
        known = {n for a in family if a.audit == abi.audit for n in syscalls.numbers(a).values()}
        others = itertools.chain(range(500), range(4000, 7000), range(1 << 30, (1 << 30) + 600))
        for number in {*others, *known}:
            assert run(program, abi, number) == (EPERM if number in known else ALLOW), number
        other = next(a for a in ABIS if a not in family and a.little == abi.little)
        assert run(program, other, syscalls.numbers(other)["socket"]) == KILL


def test_the_first_rule_that_fits_decides() -> None:
    rules = [
        Rule("socket", EPERM, (Argument(0, (17,)),)),
        Rule("socket", ASK, (Argument(1, (3,), ignore=0o2004000),)),
        Rule("ptrace", KILL),
        Rule("socket", ALLOW),
    ]
    abi = ABIS[0]
    program = seccomp.program([abi], rules, default=EPERM, foreign=KILL)
    numbers = syscalls.numbers(abi)
    assert run(program, abi, numbers["socket"], 17, 3, 0) == EPERM
    assert run(program, abi, numbers["socket"], 2, 3, 0) == ASK
    assert run(program, abi, numbers["socket"], 2, 1, 0) == ALLOW
    assert run(program, abi, numbers["ptrace"], 17, 3, 0) == KILL
    assert run(program, abi, 0) == EPERM


def test_misspelled_calls_are_found() -> None:
    with pytest.raises(ValueError, match="'sokcet'"):
        seccomp.program(ABIS[:1], [Rule("sokcet", ALLOW)], default=ALLOW, foreign=ALLOW)
    with pytest.raises(ValueError, match="too long"):
        seccomp.program(
            ABIS[:1],
            [Rule("socket", ALLOW, (Argument(0, tuple(range(255))),))],
            default=ALLOW,
            foreign=ALLOW,
        )


def test_ioctl_numbers() -> None:
    """As gcc makes them from linux/seccomp.h, on x86-64 and (by hand) where directions differ."""
    assert seccomp.ioctls(ABIS[0]) == (0xC0502100, 0xC0182101, 0x40182103, 0x40082104)
    mips = next(abi for abi in ABIS if abi.name == "MIPS")
    assert seccomp.ioctls(mips) == (0xC0502100, 0xC0182101, 0x80182103, 0x80082104)


def in_child(function: Callable[[], None]) -> int:
    """The exit status of a child that runs the function: 0, or 1 with a traceback."""
    child = os.fork()
    if not child:
        try:
            function()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def own() -> Abi:
    with open("/proc/self/exe", "rb") as file:
        abi = syscalls.of_program(file.read(64))
    if abi is None:
        pytest.skip("a machine that the table does not know")
    return abi


def test_the_kernel_takes_and_obeys_it() -> None:
    abi = own()
    rules = [
        Rule("socket", EPERM, (Argument(0, (int(socket.AF_INET6),)), Argument(2, (0, 6)))),
        Rule("sethostname", seccomp.errno_action(errno.EXDEV)),
    ]
    program = seccomp.program(syscalls.siblings(abi), rules, default=ALLOW, foreign=KILL)

    def child() -> None:
        libc.no_new_privileges()
        assert libc.prctl(u.PR_GET_NO_NEW_PRIVS) == 1
        assert libc.seccomp(syscalls.numbers(abi)["seccomp"], program) == 0
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
        with pytest.raises(PermissionError):
            socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        with pytest.raises(OSError) as caught:
            socket.sethostname("x")
        assert caught.value.errno == errno.EXDEV

    assert in_child(child) == 0
