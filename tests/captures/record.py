"""Recorded netlink messages as text: a file that is written by capture.py and read by the tests.

    # comment
    token NAME 89abcdef             what the kernel drew at random, and the messages contain
    NAME  HEX HEX HEX               the bytes of one whole message; spaces mean nothing
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mptcpd.nl import genl, messages
from tests.captures.swapped import here

FOLDER = Path(__file__).resolve().parent


class Record:
    """Messages by name, tokens by the connection's name, and the kernel that they are of."""

    def __init__(self, kernel: str = "", byte_order: str = sys.byteorder) -> None:
        release, machine = os.uname().release.partition("-")[0], os.uname().machine
        self.kernel = kernel or f"Linux {release}, {machine}"
        self.byte_order = byte_order
        self.tokens: dict[str, int] = {}
        self.messages: dict[str, bytes] = {}
        self._headers: dict[str, int] = {}

    def add(self, name: str, message: bytes, header: int = genl.HEADER) -> None:
        """``header``: bytes of the family's header, to part the line for the eye."""
        if name in self.messages:
            raise ValueError(f"two messages of the name {name}")
        self.messages[name] = message
        self._headers[name] = header

    def write(self, file: Path) -> None:
        width = max(map(len, self.messages))
        with file.open("w") as stream:
            stream.write(
                f"# {self.kernel}, {self.byte_order}-endian; made by tests/captures/capture.py\n"
                "# A message a line: name, then the bytes of the whole message: nlmsghdr, header\n"
                "# of the family, attributes. Spaces mean nothing.\n"
            )
            for name, token in self.tokens.items():
                stream.write(f"token {name} {token:08x}\n")
            for name, message in self.messages.items():
                words = " ".join(_words(message, self._headers[name]))
                stream.write(f"{name.ljust(width)}  {words}\n")


def _words(message: bytes, header: int) -> Iterator[str]:
    """A message in hexadecimal digits, apart where its parts are."""
    start = messages.HEADER + header
    yield message[: messages.HEADER].hex()
    yield message[messages.HEADER : start].hex()
    while start < len(message):
        length = (int.from_bytes(message[start : start + 2], sys.byteorder) + 3) & ~3
        yield message[start : start + max(length, 4)].hex()
        start += max(length, 4)


def read(file: Path) -> Record:
    """What ``Record.write`` wrote. Errors: ValueError for a line that is none of ours."""
    first, *lines = file.read_text().splitlines()
    heading = re.match(r"# (.+), (big|little)-endian;", first)
    if heading is None:
        raise ValueError(f"{file.name}: the first line names no kernel and byte order")
    record = Record(heading[1], heading[2])
    for line in lines:
        name, _space, rest = line.partition(" ")
        if name == "token":
            name, token = rest.split()
            record.tokens[name] = int(token, 16)
        elif name not in ("", "#"):
            record.add(name, bytes.fromhex(rest))
    return record


def load(kind: str) -> list[Record]:
    """The recordings of a kind, ``events`` or ``replies``, in this host's byte order.

    Those of a kernel of the other order are turned into it (``swapped``).
    """
    records = [read(file) for file in sorted(FOLDER.glob(f"{kind}-*.txt"))]
    for recording in records:
        for name, message in recording.messages.items():
            recording.messages[name] = here(kind, name, message, recording.byte_order)
    return records
