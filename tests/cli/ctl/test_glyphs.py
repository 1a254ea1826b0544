"""Bars and curves: as long and high as the numbers, within their width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcpd.cli.ctl import glyphs as g


@pytest.mark.parametrize(
    ("part", "width", "bar"),
    [(0, 4, ""), (1, 4, "████"), (0.5, 4, "██"), (0.001, 4, "▏"), (0.53, 4, "██▏"), (2, 4, "████"),
     (-1, 4, ""), (1, 0, "")],
)  # fmt: skip
def test_bar(part: float, width: int, bar: str) -> None:
    assert g.bar(g.UNICODE, part, width) == bar


def test_ascii() -> None:
    assert g.bar(g.ASCII, 0.5, 4) == "##"
    assert g.curve(g.ASCII, [1, 8], 5) == ".#"
    assert g.fitting("utf-8") is g.UNICODE
    for encoding in ("ascii", "ANSI_X3.4-1968", "iso8859-15", None, "no such"):
        assert g.fitting(encoding) is g.ASCII


def test_curve() -> None:
    assert g.curve(g.UNICODE, [0, 1, 4, 8], 10) == " ▁▄█"
    assert g.curve(g.UNICODE, [9, 9, 1, 2], 2) == "▄█"  # the latest, and their own scale
    assert g.curve(g.UNICODE, [0, 0], 5) == ""
    assert g.curve(g.UNICODE, [1], 0) == ""


@pytest.mark.parametrize(("width", "text"), [(9, "abcdef"), (6, "abcdef"), (5, "abcd…"), (1, "…"),
                                             (0, "")])  # fmt: skip
def test_shorten(width: int, text: str) -> None:
    assert g.shorten(g.UNICODE, "abcdef", width) == text


@given(st.floats(0, 1), st.integers(0, 60), st.sampled_from([g.UNICODE, g.ASCII]))
def test_a_bar_stays_in_its_place(part: float, width: int, glyphs: g.Glyphs) -> None:
    bar = g.bar(glyphs, part, width)
    assert len(bar) <= width
    assert abs(len(bar) - part * width) <= 1
