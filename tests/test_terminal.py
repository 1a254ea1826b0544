"""The screen of lab's terminal: what curses writes for an xterm, and what ends up where."""

from __future__ import annotations

import pytest

from lab.terminal import PLAIN, Screen, Style


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ("ab\r\ncd", ["ab", "cd", ""]),
        ("abcdefgh", ["abcdef", "gh", ""]),  # the end of a line is the beginning of the next
        ("1\r\n2\r\n3\r\n4", ["2", "3", "4"]),  # it scrolls
        ("abc\b\bX", ["aXc", "", ""]),
        ("\x1b[2;3Hx", ["", "  x", ""]),
        ("\x1b[Hx\x1b[3dy\x1b[5Gz", ["x", "", " y  z"]),
        ("abc\x1b[2Dx\x1b[Cy\x1b[By\x1b[Az", ["axcy z", "    y", ""]),
        ("abcdef\x1b[1;3H\x1b[K", ["ab", "", ""]),
        ("abcdef\x1b[1;3H\x1b[1K", ["   def", "", ""]),
        ("abcdef\x1b[1;3H\x1b[2X", ["ab  ef", "", ""]),
        ("abcdef\x1b[1;3H\x1b[2P", ["abef", "", ""]),
        ("ab\r\ncd\x1b[1;2H\x1b[J", ["a", "", ""]),
        ("ab\x1b[2J", ["", "", ""]),
        ("a\x1b[3b", ["aaaa", "", ""]),
        ("\x1b[?25l\x1b[?1049h\x1b(B\x1b=\x1b[1;3ra\x1b]0;title\x07b", ["ab", "", ""]),
        ("1\r\n2\r\n3\x1b[2;3r\x1b[S", ["1", "3", ""]),
        ("1\r\n2\r\n3\x1b[1;2r\x1b[T", ["", "1", "3"]),
        ("1\r\n2\r\n3\x1b[1;2r\x1b[2d\nx", ["2", "x", "3"]),
        ("1\r\n2\r\n3\x1b[H\x1bMx", ["x", "1", "2"]),
        ("1\r\n2\r\n3\x1b[2;1H\x1b[Lx", ["1", "x", "2"]),
        ("1\r\n2\r\n3\x1b[2;1H\x1b[M", ["1", "3", ""]),
        ("1\r\n2\r\n3\x1b[9S", ["", "", ""]),
    ],
)
def test_where_it_lands(written: str, lines: list[str]) -> None:
    for step in (len(written), 1):  # whole, and in the pieces that a read may make of it
        screen = Screen(6, 3)
        for at in range(0, len(written), step):
            screen.feed(written[at : at + step])
        assert screen.lines == lines
        assert screen.strange == []


def test_styles() -> None:
    screen = Screen(10, 1)
    screen.feed("a\x1b[1;7mb\x1b[0;38;5;208mc\x1b[2md\x1b[39;22me\x1b[91mf\x1b[32mg\x1b[mh")
    assert [style for _cell, style in screen.cells[0][:8]] == [
        PLAIN, Style(bold=True, reverse=True), Style(208), Style(208, dim=True), PLAIN, Style(9),
        Style(2), PLAIN,
    ]  # fmt: skip


def test_resize() -> None:
    screen = Screen(4, 2)
    screen.feed("abcd\r\nefg")
    screen.resize(2, 3)
    assert screen.lines == ["ab", "ef", ""]
    screen.feed("\x1b[9;9Hz")
    assert screen.lines == ["ab", "ef", " z"]


def test_what_is_not_known_is_told() -> None:
    screen = Screen(10, 2)
    screen.feed("a\x1b[5Zb\x1b[48;5;1mc")
    assert screen.lines[0] == "abc"
    assert screen.strange[0] == "CSI 5Z"
