"""What was counted, as text and as JSON; and the file for node_exporter."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import re

import pytest

from mptcpd.cli import metrics
from mptcpd.cli.metrics import FAMILIES, Family, Sample
from mptcpd.cli.metrics_file import MetricsFile
from mptcpd.core.loop import Loop, Rounds

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "control.md"
ODD = Family("odd", "counter", "", 'a "quoted" \\ thing\nin two lines', lambda _found: {})
SIZE = Family("size_bytes", "gauge", "bytes", "A size.", lambda _found: {})
FOUND = [
    (ODD, [Sample("odd_total", (("name", 'a"b\\c\nd'), ("x", "é")), 3)]),
    (SIZE, [Sample("size_bytes", (), 4096)]),
]


def test_openmetrics() -> None:
    assert metrics.openmetrics(FOUND) == (
        "# TYPE odd counter\n"
        '# HELP odd a \\"quoted\\" \\\\ thing\\nin two lines\n'
        'odd_total{name="a\\"b\\\\c\\nd",x="é"} 3\n'
        "# TYPE size_bytes gauge\n"
        "# UNIT size_bytes bytes\n"
        "# HELP size_bytes A size.\n"
        "size_bytes 4096\n"
        "# EOF\n"
    )


def test_the_older_format() -> None:
    """In which a counter's name is the whole one, and there is neither unit nor end."""
    lines = metrics.openmetrics(FOUND, classic=True).splitlines()
    assert lines[0] == "# TYPE odd_total counter"
    assert not any("UNIT" in line or "EOF" in line for line in lines)


def test_json() -> None:
    found = metrics.as_json(FOUND)
    assert found == {
        "odd_total": [{"name": 'a"b\\c\nd', "x": "é", "value": 3}],
        "size_bytes": 4096,
    }
    json.dumps(found)


def test_names_are_as_openmetrics_wants_them() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert re.fullmatch(r"[a-z_]+", family.name)
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket", "_info"))
        assert family.kind in ("counter", "gauge", "histogram", "info")
        assert not family.unit or family.name.endswith("_" + family.unit)
        assert family.about.endswith(".") and "\n" not in family.about


def test_the_page_explains_every_number() -> None:
    page = PAGE.read_text()
    suffix = {"counter": "_total", "info": "_info"}
    wanted = {family.name + suffix.get(family.kind, "") for family in FAMILIES}
    assert set(re.findall(r"^\| `([a-z_]+)`", page, re.MULTILINE)) == wanted


def test_rounds() -> None:
    rounds = Rounds()
    for seconds in (0.0, 0.001, 0.0011, 0.05, 0.0501, 7.0):
        rounds.add(seconds)
    assert rounds.counts == [2, 1, 0, 0, 1, 1, 0, 0, 1]
    assert rounds.longest == 7.0
    assert rounds.seconds == pytest.approx(7.1022)


# The file


class Clock:
    now = 0.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


def turn(loop: Loop) -> None:
    loop.call_later(0, loop.stop)
    loop.run()


def test_the_file_is_replaced_and_goes(tmp_path: pathlib.Path, clock: Clock) -> None:
    loop = Loop(lambda: clock.now)
    texts = iter(["one\n", "two\n", "three\n"])
    kept = MetricsFile(loop, lambda: next(texts))
    assert loop._wait() is None
    kept.keep(None, 15.0)
    assert loop._wait() is None  # no file, no timer
    file = tmp_path / "m.prom"
    mask = os.umask(0o077)  # as the unit for systemd has it; the reader is somebody else
    kept.keep(str(file), 15.0)
    os.umask(mask)
    assert file.read_text() == "one\n" and file.stat().st_mode & 0o777 == 0o644
    inode = file.stat().st_ino
    kept.keep(str(file), 15.0)  # the same: nothing happens
    clock.now += 14.9
    turn(loop)
    assert file.read_text() == "one\n"
    clock.now += 0.2
    turn(loop)
    assert file.read_text() == "two\n" and file.stat().st_ino != inode
    other = tmp_path / "n.prom"
    kept.keep(str(other), 15.0)
    assert not file.exists() and other.read_text() == "three\n"
    kept.close()
    assert os.listdir(tmp_path) == []
    assert loop._wait() is None
    loop.close()


def test_a_file_that_cannot_be_written(
    tmp_path: pathlib.Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once; written as soon as it can be. A link that somebody put there is not followed."""
    loop = Loop(lambda: clock.now)
    kept = MetricsFile(loop, lambda: "text\n")
    folder = tmp_path / "later"
    kept.keep(str(folder / "m.prom"), 1.0)
    for _time in range(3):
        clock.now += 1.1
        turn(loop)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"metrics-file={folder}/m.prom: No such file or directory (there has to be a directory "
        f"{folder}); trying again every 1 s"
    )
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (folder / "m.prom.new").symlink_to(victim)
    clock.now += 1.1
    turn(loop)
    assert (folder / "m.prom").read_text() == "text\n" and victim.read_text() == "mine"
    kept.close()
    loop.close()
