"""The picture: XML, everything on it, areas as large as the bytes they stand for."""

from __future__ import annotations

import xml.etree.ElementTree as xml

import pytest

from mptcpd.cli.ctl.picture import COLOURS, EVENTS, Picture
from mptcpd.cli.ctl.recording import Happening, Recording
from tests.cli.ctl.made import JOIN, connection, subflow
from tests.cli.ctl.test_recording import Taking

_SVG = "{http://www.w3.org/2000/svg}"


def drawn(recorded: Recording, note: str = "") -> xml.Element:
    return xml.fromstring(Picture(recorded, "2026-11-23 18:01:24", note).svg())


def words(root: xml.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{_SVG}text")]


def two_paths() -> Recording:
    taking = Taking()
    for time in range(11):
        # 8 and 2 Mbit/s up; 1 Mbit/s down on the second.
        taking.look(time, connection(
            0xAB, subflow(11, 1_000_000 * time),
            subflow(12, 250_000 * time, 125_000 * time, flags=JOIN),
            sent=1_250_000 * time, received=125_000 * time,
        ))  # fmt: skip
    return taking.recording


def area(element: xml.Element) -> float:
    """Of a polygon, in square pixels."""
    corners = [tuple(map(float, pair.split(","))) for pair in element.attrib["points"].split()]
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)) / 2


def test_areas_are_bytes() -> None:
    root = drawn(two_paths())
    found = {
        (element.attrib["fill"], index): area(element)
        for index, element in enumerate(root.iter(f"{_SVG}polygon"))
    }
    (first, second, back) = found.values()
    assert first / second == pytest.approx(4, rel=0.02)
    assert [colour for colour, _index in found] == [COLOURS[0], COLOURS[1], COLOURS[1]]
    assert back > 0
    # The second stands on the first.
    heights = [
        [float(pair.split(",")[1]) for pair in element.attrib["points"].split()]
        for element in root.iter(f"{_SVG}polygon")
    ]
    assert max(heights[1]) == min(heights[0])
    told = words(root)
    assert "sent, Mbit/s" in told
    assert "received, kbit/s" in told or "received, Mbit/s" in told
    assert "MPTCP connection 000000ab, client to there" in told
    assert "12.5 MB sent, 1.25 MB received" in told
    assert "10.0 s from 2026-11-23 18:01:24" in told


def test_events_are_numbered_on_the_line_and_in_the_list() -> None:
    recorded = two_paths()
    recorded.happened(Happening(2.0, "appears", 0xAB, "subflow <established> & so on"))
    recorded.happened(Happening(2.01, "ends", 0xAB, "subflow closed"))
    recorded.happened(Happening(3.0, "ends", 0xCD, "of a stranger"))
    recorded.happened(Happening(4.0, "fails", None, "eth1 is down"))
    recorded.happened(Happening(99.0, "ends", 0xAB, "after the end"))
    root = drawn(recorded, "a note")
    told = words(root)
    for text in ("subflow <established> & so on", "subflow closed", "eth1 is down", "a note"):
        assert told.count(text) == 1
    assert "of a stranger" not in told
    assert "after the end" not in told
    discs = [
        (float(circle.attrib["cx"]), float(circle.attrib["cy"]))
        for circle in root.iter(f"{_SVG}circle")
    ]
    assert len(discs) == 6  # three on the line, three in the list
    assert abs(discs[0][1] - discs[1][1]) >= 14  # close ones do not cover each other


def test_too_many_of_everything() -> None:
    taking = Taking()
    for time in range(5):
        taking.look(time, *(
            connection(n, subflow(n, n * 1000 * time), sent=n * 1000 * time)
            for n in range(1, 31)
        ))  # fmt: skip
    for number in range(40):
        taking.recording.happened(Happening(1.0, "other", 1, f"event {number}"))
    root = drawn(taking.recording)
    told = words(root)
    assert "30 MPTCP connections" in told
    assert f"{30 - len(COLOURS)} other subflows" in told
    assert f"and {40 - EVENTS} more events" in told
    assert len({element.attrib["fill"] for element in root.iter(f"{_SVG}polygon")}) == 9
    shares = [int(text.split(" %")[0]) for text in told if " % · " in text]
    assert sum(shares) == 100


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_next_to_nothing(looks: int) -> None:
    taking = Taking()
    for time in range(looks):
        taking.look(time, connection(1, subflow(11)))
    assert drawn(taking.recording).tag == f"{_SVG}svg"


def test_everything_is_within_the_picture() -> None:
    root = drawn(two_paths())
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    for element in root.iter():
        for name, most in (("x", width), ("y", height), ("cx", width), ("cy", height)):
            if name in element.attrib:
                assert 0 <= float(element.attrib[name]) <= most
        for pair in element.attrib.get("points", "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
