"""Programs for seccomp: which system calls a process may make, and which somebody is asked about.

Knows linux/seccomp.h: what a filter sees, what it may answer, the structs of notifications; must
not know why a call is of interest. ``libc.seccomp`` hands a program to the kernel.

A program is classic BPF without loads from memory. One whose answer depends on nothing but ABI and
number costs nothing where it allows: the kernel tries such calls when it takes the program, and
never runs it for them (kernel/seccomp.c: seccomp_cache_prepare_bitmap, Linux 5.11).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import NamedTuple

from mptcpd.nl import uapi as u
from mptcpd.nl.bpf import Instruction
from mptcpd.nl.syscalls import Abi, names, numbers

# linux/bpf_common.h: class | size | mode, class | operation | source
_LD_W_ABS = 0x00 | 0x00 | 0x20
_AND_K = 0x04 | 0x50 | 0x00
_JA = 0x05 | 0x00
_JEQ_K = 0x05 | 0x10 | 0x00
_RET_K = 0x06 | 0x00

# struct seccomp_data: offsets
_NR, _ARCH, _ARGS = 0, 4, 16

notif = Struct("=QIIiIQ6Q")  # id, pid, flags; nr, arch, instruction_pointer, args
notif_resp = Struct("=QqiI")  # id, val, error, flags
notif_addfd = Struct("=QIIII")  # id, flags, srcfd, newfd, newfd_flags


class Argument(NamedTuple):
    """Whether an argument is one of ``values``; its bits in ``ignore`` do not count.

    The lower 32 bits alone are compared: for an argument that is an int the kernel does not look
    at the others, so that a program may leave anything there.
    """

    place: int
    values: tuple[int, ...]
    ignore: int = 0


class Rule(NamedTuple):
    """``action`` (SECCOMP_RET_*) for the system call ``call`` if all tests hold."""

    call: str
    action: int
    tests: tuple[Argument, ...] = ()


def program(
    abis: Iterable[Abi], rules: Sequence[Rule], *, default: int, foreign: int
) -> list[Instruction]:
    """A filter: the first rule that fits decides.

    abis     those that the kernel may meet (``syscalls.siblings``); an ABI that has no such call
             needs no rule for it
    default  SECCOMP_RET_* where no rule fits
    foreign  SECCOMP_RET_* for an ABI that is not among ``abis``
    Errors   ValueError for a call that the table does not know, or a rule of more than 255 steps.
    """
    for rule in rules:
        if rule.call not in names():
            raise ValueError(f"no number for the system call {rule.call!r}")
    groups: dict[int, list[Abi]] = {}  # x86-64 and x32 differ in the numbers alone
    for abi in abis:
        groups.setdefault(abi.audit, []).append(abi)
    code: list[Instruction] = [(_LD_W_ABS, 0, 0, _ARCH)]
    for audit, group in groups.items():
        section: list[Instruction] = [(_LD_W_ABS, 0, 0, _NR)]
        for abi in group:
            known = numbers(abi)
            for rule in rules:
                if rule.call in known:
                    section += _rule(rule, known[rule.call], abi.little)
        section.append((_RET_K, 0, 0, default))
        code += [(_JEQ_K, 1, 0, audit), (_JA, 0, 0, len(section)), *section]
    return [*code, (_RET_K, 0, 0, foreign)]


def _rule(rule: Rule, number: int, little: bool) -> list[Instruction]:
    """Begins and, where the rule does not fit, ends with the call's number in the accumulator."""
    steps: list[Instruction] = [(_RET_K, 0, 0, rule.action)]
    if rule.tests:
        steps.append((_LD_W_ABS, 0, 0, _NR))
    for test in reversed(rule.tests):
        miss = len(steps) - 1  # to the load at the end
        head: list[Instruction] = [
            (_LD_W_ABS, 0, 0, _ARGS + 8 * test.place + (0 if little else 4))
        ]
        if test.ignore:
            head.append((_AND_K, 0, 0, ~test.ignore & 0xFFFFFFFF))
        for index, value in enumerate(test.values, 1):
            left = len(test.values) - index
            head.append((_JEQ_K, left, 0 if left else miss, value))
        steps = head + steps
    steps.insert(0, (_JEQ_K, 0, len(steps), number))
    if len(steps) > 255:
        raise ValueError(f"the rule for {rule.call} is too long")
    return steps


class Ioctls(NamedTuple):
    """The requests that a listener's descriptor takes."""

    recv: int  # notif, all zero before
    send: int  # notif_resp
    addfd: int  # notif_addfd; returns the number that the descriptor got over there
    set_flags: int  # the flags themselves as argument, not a pointer


def ioctls(abi: Abi) -> Ioctls:
    """Their numbers, which hold direction and size. Source: asm/ioctl.h: _IOC."""
    # mips and powerpc have three bits for the direction, the others two.
    write, both = (4 << 29, 6 << 29) if abi.kernel in ("mips", "powerpc") else (1 << 30, 3 << 30)

    def number(direction: int, nr: int, size: int) -> int:
        return direction | size << 16 | ord("!") << 8 | nr

    return Ioctls(
        number(both, 0, notif.size),
        number(both, 1, notif_resp.size),
        number(write, 3, notif_addfd.size),
        number(write, 4, 8),
    )


def errno_action(number: int) -> int:
    """SECCOMP_RET_* that makes a call fail with this errno."""
    return u.SECCOMP_RET_ERRNO | number
