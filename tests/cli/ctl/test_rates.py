"""From one look to the next: rates by real time, shares, newcomers, what is gone or comes back."""

from __future__ import annotations

import pytest

from mptcpd.cli.ctl.rates import HISTORY, LINGER, Tracker
from mptcpd.nl import uapi as u
from tests.cli.ctl.made import CLIENT, JOIN, connection, subflow

COOKIE = 1_000_001  # of connection 1


def changes(tracker: Tracker) -> list[tuple[str, int | None]]:
    return [(one.kind, one.subflow.cookie if one.subflow else None) for one in tracker.changes]


def test_rates_by_elapsed_time() -> None:
    tracker = Tracker()
    tracker.update(10.0, [connection(1, subflow(11, 1000, 50), sent=900, received=50)])
    view = tracker.connections[COOKIE]
    assert (view.up, view.down, view.subflows[11].up) == (None, None, None)
    tracker.update(12.5, [connection(1, subflow(11, 6000, 300), sent=5900, received=300)])
    assert tracker.seconds == 2.5
    assert (view.subflows[11].up, view.subflows[11].down) == (2000.0, 100.0)
    assert (view.up, view.down) == (2000.0, 100.0)
    assert view.rate == 2100.0
    assert tracker.changes == []


def test_a_kernel_without_counters_of_connections() -> None:
    """Before Linux 6.5: all that the subflows carry."""
    tracker = Tracker()
    for time, sent in ((0.0, 0), (1.0, 500)):
        tracker.update(time, [connection(1, subflow(11, sent), subflow(12, 2 * sent), size=44)])
    assert tracker.connections[COOKIE].up == 1500.0


@pytest.mark.parametrize("amounts", [(1, 1, 1), (1, 2, 999_999), (5, 0, 0)])
def test_shares_add_up(amounts: tuple[int, ...]) -> None:
    tracker = Tracker()
    for time in (0, 1):
        subflows = [subflow(11 + at, time * amount) for at, amount in enumerate(amounts)]
        tracker.update(time, [connection(1, *subflows)])
    shares = [view.share for view in tracker.connections[COOKIE].subflows.values()]
    assert sum(share or 0 for share in shares) == 100


def test_nothing_moves() -> None:
    tracker = Tracker()
    for time in (0, 1, 2):
        tracker.update(time, [connection(1, subflow(11, 77))])
    view = tracker.connections[COOKIE]
    assert view.subflows[11].share is None
    assert view.up == 0
    assert view.history == []


def test_a_subflow_appears_and_goes() -> None:
    tracker = Tracker()
    tracker.update(0, [connection(1, subflow(11))])
    # All that a newcomer has carried is of the time since the last look.
    tracker.update(2, [connection(1, subflow(11), subflow(12, 400, flags=JOIN))])
    view = tracker.connections[COOKIE]
    assert changes(tracker) == [("established", 12)]
    assert view.subflows[12].up == 200.0
    assert view.subflows[12].since == 2
    assert view.subflows[11].since is None
    tracker.update(3, [connection(1, subflow(11))])
    assert changes(tracker) == [("subflow closed", 12)]
    assert (view.subflows[12].gone, view.subflows[12].up) == (3, 0.0)
    assert [one.socket.cookie for one in view.living] == [11]
    tracker.update(3 + LINGER, [connection(1, subflow(11))])
    assert set(view.subflows) == {11, 12}
    tracker.update(3.5 + LINGER, [connection(1, subflow(11))])
    assert set(view.subflows) == {11}


def test_a_connection_appears_and_goes() -> None:
    tracker = Tracker()
    tracker.update(0, [])
    tracker.update(1, [connection(1, subflow(11, 100), sent=100)])
    assert changes(tracker) == [("created", None)]  # not its first subflow once more
    view = tracker.connections[COOKIE]
    assert (view.since, view.up) == (1, 100.0)
    tracker.update(2, [])
    assert changes(tracker) == [("closed", None)]
    assert view.gone == view.subflows[11].gone == 2
    tracker.update(2.5 + LINGER, [])
    assert tracker.connections == {}


def test_what_a_dump_missed_comes_back() -> None:
    """A dump is no snapshot: a socket may be left out of one. Its counters are not all new then."""
    tracker = Tracker()
    tracker.update(0, [connection(1, subflow(11, 10_000), sent=10_000)])
    tracker.update(1, [])
    tracker.update(2, [connection(1, subflow(11, 10_100), sent=10_100)])
    view = tracker.connections[COOKIE]
    assert view.gone is None
    assert view.up == view.subflows[11].up == 100.0


def test_counters_that_began_anew() -> None:
    """A socket that was disconnected and connected again."""
    tracker = Tracker()
    tracker.update(0, [connection(1, subflow(11, 500), sent=500)])
    tracker.update(1, [connection(1, subflow(11, 20), sent=20)])
    assert tracker.connections[COOKIE].up == 0


def test_backup_is_told_of() -> None:
    tracker = Tracker()
    ours = CLIENT | u.MPTCP_SUBFLOW_FLAG_BKUP_LOC
    theirs = CLIENT | u.MPTCP_SUBFLOW_FLAG_BKUP_REM
    for time, flags, said in (
        (0, CLIENT, []), (1, ours, [("backup", 11)]), (2, ours, []),
        (3, theirs, [("no backup", 11), ("backup by peer", 11)]),
        (4, CLIENT, [("no backup by peer", 11)]),
    ):  # fmt: skip
        tracker.update(time, [connection(1, subflow(11, flags=flags))])
        assert changes(tracker) == said


def test_another_socket_on_the_same_path_is_another() -> None:
    tracker = Tracker()
    first = subflow(11, 10**9)
    tracker.update(0, [connection(1, first)])
    tracker.update(1, [connection(1, first._replace(cookie=12, info=subflow(1, 300).info))])
    view = tracker.connections[COOKIE]
    assert view.subflows[12].up == 300.0
    assert view.subflows[11].gone == 1


def test_bounds() -> None:
    tracker = Tracker()
    for time in range(3 * HISTORY):
        tracker.update(time, [connection(1, subflow(11, time * 10), sent=time * 10)])
    assert tracker.connections[COOKIE].history == [10.0] * HISTORY


def test_resent() -> None:
    tracker = Tracker()
    tracker.update(0, [connection(1, subflow(11, resent=5))])
    tracker.update(1, [connection(1, subflow(11, resent=8), subflow(12, resent=2, flags=JOIN))])
    view = tracker.connections[COOKIE]
    assert (view.subflows[11].resent, view.subflows[12].resent, view.resent) == (3, 2, 5)
