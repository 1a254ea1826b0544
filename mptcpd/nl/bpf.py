"""Classic BPF programs for event sockets: unwanted events are dropped in the kernel.

Knows linux/filter.h as far as it is used here; must not know sockets.
"""

from __future__ import annotations

from collections.abc import Collection

# linux/bpf_common.h: class | size | mode, class | operation | source
_LD_B_ABS = 0x00 | 0x10 | 0x20
_JEQ_K = 0x05 | 0x10 | 0x00
_RET_K = 0x06 | 0x00
_ALL = 0xFFFFFFFF  # return the whole message
_COMMAND = 16  # offset of genlmsghdr's command byte, right behind the nlmsghdr

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def commands(wanted: Collection[int]) -> list[Instruction]:
    """A program that lets through the genetlink messages with one of these command bytes.

    ``jt`` and ``jf`` skip so many instructions. At most 250 commands: a jump is a u8.
    Errors  ValueError for more.
    """
    kinds = sorted(wanted)
    if len(kinds) > 250:
        raise ValueError(f"{len(kinds)} commands do not fit into one filter")
    if not kinds:
        return [(_RET_K, 0, 0, 0)]
    program: list[Instruction] = [(_LD_B_ABS, 0, 0, _COMMAND)]
    for index, kind in enumerate(kinds):
        program.append((_JEQ_K, len(kinds) - index, 0, kind))
    program.append((_RET_K, 0, 0, 0))
    program.append((_RET_K, 0, 0, _ALL))
    return program
