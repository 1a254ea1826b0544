"""SVG by hand is XML, whatever is in the text."""

from __future__ import annotations

import xml.etree.ElementTree as xml

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcpd.cli.ctl import svg


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (1.25, "1.2"), (-0.04, "0"), (0.06, "0.1"), (1e6, "1000000")]
)
def test_number(value: float, text: str) -> None:
    assert svg.number(value) == text


def test_element() -> None:
    made = svg.element("rect", x=1, class_="a b", stroke_width=2.5, fill=None)
    assert made == '<rect x="1" class="a b" stroke-width="2.5"/>'
    assert svg.element("g", made) == f"<g>{made}</g>"
    assert svg.polygon([(0, 0), (1.5, 2)]) == '<polygon points="0,0 1.5,2"/>'


@given(st.text())
def test_any_text(words: str) -> None:
    made = svg.text(1, 2, words, class_=words or "x")
    element = xml.fromstring(made)
    kept = "".join(one if one.isprintable() or one in "\n\t" else "?" for one in words)
    assert (element.text or "") == kept
