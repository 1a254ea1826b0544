"""The daemon where something is scarce: the module with its arguments, and ``confine:WHAT=...``.

    nofile=N        descriptors (RLIMIT_NOFILE)      memory=N   bytes more than at the start may be
    buffers=N       bytes of every netlink socket's receive buffer           mapped (RLIMIT_AS)
    full=FOLDER     a disk without a free block is mounted there
    readonly=FOLDER a disk that cannot be written is mounted there

Knows how to make things scarce for this process alone; the rest is the program as it is. Exit
status 77: it has no right to.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable

from mptcpd.cli import daemon
from mptcpd.nl import sock
from mptcpd.nl import uapi as u
from mptcpd.nl.namespaces import unshare

NO_RIGHT = 77
_PREFIX = "confine:"
_MS_RDONLY, _MS_REC, _MS_PRIVATE = 1, 1 << 14, 1 << 18  # linux/mount.h
_BLOCK = 4096
_libc = ctypes.CDLL(None, use_errno=True)


def _nofile(text: str) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(text), int(text)))


def _memory(text: str) -> None:
    with open("/proc/self/statm") as stream:
        mapped = int(stream.read().split()[0]) * resource.getpagesize()
    limit = mapped + int(text)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _buffers(text: str) -> None:
    opened = sock._open
    sock._open = lambda protocol, receive_buffer: opened(protocol, int(text))


def _mount(source: str, folder: str, kind: str, flags: int, options: str) -> None:
    arguments = (source.encode(), folder.encode(), kind.encode())
    if _libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {folder}: {os.strerror(number)}")


def _disk(folder: str, flags: int) -> None:
    unshare(u.CLONE_NEWNS)
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE, "")
    _mount("tmpfs", folder, "tmpfs", flags, f"size={_BLOCK}")


def _full(folder: str) -> None:
    _disk(folder, 0)
    with open(os.path.join(folder, "ballast"), "wb") as stream:
        stream.write(bytes(_BLOCK))


def _readonly(folder: str) -> None:
    _disk(folder, _MS_RDONLY)


MEANS: dict[str, Callable[[str], None]] = {
    "nofile": _nofile,
    "memory": _memory,
    "buffers": _buffers,
    "full": _full,
    "readonly": _readonly,
}

if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word.startswith(_PREFIX)]
    for one in given:
        name, _, value = one.removeprefix(_PREFIX).partition("=")
        try:
            MEANS[name](value)
        except PermissionError as error:
            print(f"{name}: {error}", file=sys.stderr)
            sys.exit(NO_RIGHT)
    sys.exit(daemon.main([word for word in sys.argv[1:] if word not in given]))
