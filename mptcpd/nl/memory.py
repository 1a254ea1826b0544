"""Gives freed memory back to the system.

Knows malloc_trim(3); must not know what was freed. Reading code at the start, and long dumps, leave
behind freed memory that glibc keeps for later: about 0.4 MB after the start (measured), of 16.
"""

from __future__ import annotations

from mptcpd.nl._attrs_abi import ffi


def give_back() -> bool:
    """Let the C library return what is free; False where it has no such call (musl needs none)."""
    try:
        ffi.dlopen(None).malloc_trim(0)
    except AttributeError:
        return False
    return True
