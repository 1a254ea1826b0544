"""Enters the network namespace that -n names: a name, a file or a process.

Knows where namespaces are found; must not know what is done inside.
"""

from __future__ import annotations

import os

from mptcpd.cli.ctl.errors import Failure
from mptcpd.nl.namespaces import setns
from mptcpd.nl.uapi import CLONE_NEWNET

_NAMED = "/run/netns"  # where "ip netns add" puts them


def enter(name: str) -> None:
    """Move this process there. Errors: Failure.

    A name below /run/netns, else a process by its number, else (with a slash in it) a file.
    """
    try:
        fd = os.open(_file(name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(f'Cannot open network namespace "{name}": {error.strerror}') from None
    try:
        setns(fd, CLONE_NEWNET)
    except OSError as error:
        raise Failure(
            f'setting the network namespace "{name}" failed: {error.strerror}'
        ) from None
    finally:
        os.close(fd)


def _file(name: str) -> str:
    if "/" in name:
        return name
    named = os.path.join(_NAMED, name)
    if name.isascii() and name.isdigit() and not os.path.exists(named):
        return f"/proc/{name}/ns/net"
    return named
