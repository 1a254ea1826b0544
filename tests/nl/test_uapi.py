"""Every constant of uapi.py has the value that the installed kernel headers give it.

The headers are read as text, nothing is compiled: ``#define`` and ``enum`` are all there is to
them. A name that older headers lack is skipped, one skip a name; with headers as new as the newest
name here (Linux 6.18) nothing may be lacking.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mptcpd.nl import uapi

INCLUDE = Path("/usr/include")
NEWEST = (6, 18)
# Names of the kernel's own headers that no installed header has.
NOT_EXPORTED = {"SOL_MPTCP": "include/linux/socket.h"}

_BLOCK = re.compile(r"# ((?:[\w/-]+\.h(?:, )?)+)")
_NAME = re.compile(r"([A-Z][A-Z0-9_]+) = ")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+(.+?)[ \t]*$", re.MULTILINE)
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]+<(linux/\w+\.h)>", re.MULTILINE)
_ENUM = re.compile(r"\benum\b[^;{}()]*\{(.*?)\}", re.DOTALL)
_EXPRESSION = re.compile(r"[\w\s()|+~<>-]+")


def names() -> list[tuple[str, tuple[str, ...]]]:
    """Each constant with the headers that the comment above its block names."""
    found: list[tuple[str, tuple[str, ...]]] = []
    headers: tuple[str, ...] = ()
    for line in Path(uapi.__file__).read_text().splitlines():
        if block := _BLOCK.match(line):
            headers = tuple(block[1].split(", "))
        elif constant := _NAME.match(line):
            found.append((constant[1], headers))
    return found


class Header:
    """What ``#define`` and ``enum`` of one header say: ``values`` by name, numbers or strings."""

    def __init__(self, text: str) -> None:
        text = _COMMENT.sub(" ", text.replace("\\\n", " "))
        self.values: dict[str, int | str] = {}
        for include in _INCLUDE.findall(text):
            included = header(include)
            self.values |= included.values if included else {}
        pending = dict(_DEFINE.findall(text))
        for body in _ENUM.findall(re.sub(r"^[ \t]*#.*$", "", text, flags=re.MULTILINE)):
            self._enum(body)
        while pending:  # a define may come before the one that it needs
            known = {name: self.value(text) for name, text in pending.items()}
            self.values |= {name: value for name, value in known.items() if value is not None}
            left = {name: text for name, text in pending.items() if known[name] is None}
            if len(left) == len(pending):
                break
            pending = left

    def _enum(self, body: str) -> None:
        last: int | str | None = -1
        for member in body.split(","):
            name, _equals, text = (part.strip() for part in member.partition("="))
            if not name:
                continue
            last = self.value(text) if text else last + 1 if isinstance(last, int) else None
            if last is not None:
                self.values[name] = last

    def value(self, text: str) -> int | str | None:
        """A C constant expression; None if it is more than numbers, names and bit operators."""
        if re.fullmatch(r'"[^"]*"', text):
            return text[1:-1]
        text = re.sub(r"\b_BITUL\b", "1 <<", text)
        text = re.sub(r"\b(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]*\b", r"\1", text)
        if not _EXPRESSION.fullmatch(text):
            return None
        try:
            value = eval(text, {"__builtins__": {}}, self.values)
        except (NameError, SyntaxError, TypeError):
            return None
        return value & 0xFFFFFFFF if isinstance(value, int) and value < 0 else value


_CACHE: dict[str, Header | None] = {}


def header(name: str) -> Header | None:
    if name not in _CACHE:
        file = INCLUDE / name
        _CACHE[name] = None  # while it is being read: headers may include each other
        _CACHE[name] = Header(file.read_text(errors="replace")) if file.exists() else None
    return _CACHE[name]


def installed() -> tuple[int, int]:
    """The version of the kernel that the headers are of."""
    version = header("linux/version.h")
    code = version.values.get("LINUX_VERSION_CODE") if version else None
    return (code >> 16, code >> 8 & 0xFF) if isinstance(code, int) else (0, 0)


@pytest.mark.parametrize(("name", "files"), names(), ids=[name for name, _ in names()])
def test_value(name: str, files: tuple[str, ...]) -> None:
    if not (INCLUDE / "linux/netlink.h").exists():
        pytest.skip(f"no kernel headers in {INCLUDE} (Debian: linux-libc-dev)")
    if name in NOT_EXPORTED:
        pytest.skip(f"{name} is in the kernel's own {NOT_EXPORTED[name]}, which is not installed")
    for file in files:
        found = header(file)
        if found is not None and name in found.values:
            assert getattr(uapi, name) == found.values[name]
            return
    assert installed() < NEWEST, f"{name} is not in {' or '.join(files)}"
    pytest.skip(f"headers of Linux {installed()[0]}.{installed()[1]} lack {name}")


def test_every_public_name_is_compared() -> None:
    assert sorted(name for name, _ in names()) == sorted(n for n in vars(uapi) if n.isupper())


def test_the_reader_of_headers() -> None:
    """If this one does not hold, the others prove nothing."""
    text = """
    #define A 0x10 /* sixteen */
    #define B (A | (1 << 2))
    #define LATE (SOON + 1)
    #define SOON 1UL
    #define ALL (~0U)
    #define NAME "x_y"
    #define BIT _BITUL(3)
    #define F(x) ((x) + 1)
    enum thing {
        FIRST,
        FOUR = 4, /* and on */
    #define FOUR FOUR
        FIVE,
        __MAX
    };
    """
    assert Header(text).values == {
        "A": 16, "B": 20, "LATE": 2, "SOON": 1, "ALL": 0xFFFFFFFF, "NAME": "x_y", "BIT": 8,
        "FIRST": 0, "FOUR": 4, "FIVE": 5, "__MAX": 6,
    }  # fmt: skip
