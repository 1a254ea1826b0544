"""Counters that the kernel keeps of this network namespace.

Knows /proc/net/netstat; must not know what a count is good for.
"""

from __future__ import annotations

_FILE = "/proc/self/net/netstat"


def aborted(file: str = _FILE) -> int:
    """Connections that peers have aborted (MP_FASTCLOSE); 0 where it is not counted.

    Shape   for each group a line of names and a line of values, both begin with the group's name.
    Source  net/mptcp/mib.c: MPTcpExt, MPFastcloseRx (Linux 5.17).
    """
    names: list[bytes] = []
    try:
        with open(file, "rb") as stream:
            for line in stream:
                if line.startswith(b"MPTcpExt:"):
                    if names:
                        return int(line.split()[names.index(b"MPFastcloseRx")])
                    names = line.split()
    except (OSError, ValueError, IndexError):
        # No such file in some containers, no such counter in old kernels: then nothing is noticed.
        return 0
    return 0
