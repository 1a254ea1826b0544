"""A recording keeps every byte within its bounds, however long it is and whoever comes."""

from __future__ import annotations

import pytest

from mptcpd.cli.ctl import recording
from mptcpd.cli.ctl.rates import Tracker
from mptcpd.cli.ctl.recording import BACKUP, IDLE, USED, Happening, Recording
from mptcpd.cli.ctl.snapshot import Connection
from mptcpd.nl import diag
from mptcpd.nl import uapi as u
from tests.cli.ctl.made import CLIENT, JOIN, connection, subflow


class Taking:
    """A tracker and a recording that look together; ``start`` is 100 s on the clock."""

    def __init__(self) -> None:
        self.tracker = Tracker()
        self.recording = Recording(100.0)

    def look(self, time: float, *found: Connection) -> None:
        self.tracker.update(100.0 + time, found)
        views = [(view, "client to there") for view in self.tracker.connections.values()]
        self.recording.look(
            self.tracker.time, self.tracker.seconds, views, lambda view: "eth0"
        )


def total(amounts: dict[int, float]) -> float:
    return sum(amounts.values())


def test_bytes_by_interval() -> None:
    taking = Taking()
    for time, sent in ((0, 0), (1, 500), (3, 900), (4, 1900)):
        taking.look(time, connection(1, subflow(11, sent, sent // 5), sent=sent))
    recorded = taking.recording
    assert recorded.edges == [0, 1, 3, 4]
    assert recorded.length == 4
    (series,) = recorded.series.values()
    assert series.up == {0: 500.0, 1: 400.0, 2: 1000.0}
    assert series.down == {0: 100.0, 1: 80.0, 2: 200.0}
    assert series.bytes == 2280
    assert recorded.data_up == {0: 500.0, 1: 400.0, 2: 1000.0}
    assert recorded.whom == {1: "client to there"}
    assert (series.born, series.gone, series.name) == (None, None, "eth0")


def test_lives() -> None:
    taking = Taking()
    backup = CLIENT | u.MPTCP_SUBFLOW_FLAG_BKUP_LOC
    first = subflow(11)
    taking.look(0, connection(1, first))
    taking.look(1, connection(1, first, subflow(12, flags=JOIN, state=diag.TCP_SYN_SENT)))
    taking.look(2, connection(1, first._replace(flags=backup), subflow(12, flags=JOIN)))
    taking.look(3, connection(1, first))
    one, two = taking.recording.series[11], taking.recording.series[12]
    assert one.phases == [(0, USED), (2, BACKUP), (3, USED)]
    assert two.phases == [(1, IDLE), (2, USED)]
    assert (two.born, two.gone) == (1, 3)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "INTERVALS", 8)
    monkeypatch.setattr(recording, "SUBFLOWS", 4)
    monkeypatch.setattr(recording, "EVENTS", 3)


@pytest.mark.parametrize("looks", [8, 9, 10, 15, 16, 17, 50, 257])
def test_however_long(small: None, looks: int) -> None:
    taking = Taking()
    for time in range(looks + 1):
        taking.look(time, connection(1, subflow(11, time * 100), sent=time * 100))
    recorded = taking.recording
    assert len(recorded.edges) <= 9
    assert recorded.edges == sorted(set(recorded.edges))
    assert (recorded.edges[0], recorded.edges[-1]) == (0, looks)
    (series,) = recorded.series.values()
    assert series.bytes == pytest.approx(looks * 100)
    # Each interval has what belongs to it: the rate was the same all the time.
    for index, (begin, end) in enumerate(zip(recorded.edges, recorded.edges[1:], strict=False)):
        assert series.up[index] == pytest.approx(100 * (end - begin))
    assert recorded.coarse >= looks / 9


def test_however_many(small: None) -> None:
    """Nothing of what was carried is lost; those who carry most keep a line of their own."""
    taking = Taking()
    for time in range(6):
        taking.look(time, *(
            connection(n, subflow(n, time * n * (n % 2)), sent=time * n * (n % 2))
            for n in range(1, 21)
        ))  # fmt: skip
    recorded = taking.recording
    assert len(recorded.series) <= 4
    carried = sum(series.bytes for series in recorded.series.values())
    carried += total(recorded.others_up) + total(recorded.others_down)
    assert carried == pytest.approx(5 * sum(n for n in range(1, 21) if n % 2))
    assert recorded.folded > 0
    assert 19 in recorded.series


def test_idle_subflows_make_room(small: None) -> None:
    taking = Taking()
    idle = [connection(n, subflow(n)) for n in range(1, 30)]
    taking.look(0, *idle)
    assert len(taking.recording.series) == 4
    assert (taking.recording.connections, taking.recording.subflows) == (29, 29)
    taking.look(1, *idle, connection(99, subflow(99, 700), sent=700))
    assert taking.recording.series[99].bytes == 700
    assert taking.recording.folded == 0


def test_events_are_bounded(small: None) -> None:
    recorded = Recording(0.0)
    for number in range(5):
        recorded.happened(Happening(number, "other", 1, "x"))
    assert len(recorded.happenings) == 3
    assert recorded.missed == 2
