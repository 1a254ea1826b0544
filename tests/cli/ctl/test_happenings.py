"""Events and changes in words; every event of a connection has some."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mptcpd.cli.ctl import happenings
from mptcpd.cli.ctl.rates import Change
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp_event import OF_CONNECTIONS, REQUIRED, Event
from tests.cli.ctl.made import subflow

A, B = ip_address("10.0.1.1").packed, ip_address("fd00::2").packed


def test_every_event_of_a_connection() -> None:
    assert set(happenings._WORDS) == set(OF_CONNECTIONS)
    for kind, fields in REQUIRED.items():
        values = {field: B if field.endswith("_ip") else 7 for field in fields}
        found = happenings.of_event(Event(kind, **values), 1.5)  # type: ignore[arg-type]
        assert (found is None) == (kind not in OF_CONNECTIONS)


@pytest.mark.parametrize(
    ("event", "kind", "text"),
    [
        (Event(u.MPTCP_EVENT_CLOSED, 1), "ends", "connection closed"),
        (
            Event(u.MPTCP_EVENT_SUB_ESTABLISHED, 1, local_ip=A, local_port=5, remote_ip=B,
                  remote_port=443, backup=1),
            "appears", "subflow established 10.0.1.1:5 → [fd00::2]:443 (backup)",
        ),
        (
            Event(u.MPTCP_EVENT_SUB_CLOSED, 1, local_ip=A, local_port=5, remote_ip=A,
                  remote_port=443, backup=0, error=111),
            "fails", "subflow closed 10.0.1.1:5 → 10.0.1.1:443: Connection refused",
        ),
        (
            Event(u.MPTCP_EVENT_SUB_PRIORITY, 1, local_ip=A, local_port=5, remote_ip=A,
                  remote_port=443, backup=0),
            "other", "peer changed priority 10.0.1.1:5 → 10.0.1.1:443: no backup",
        ),
        (
            Event(u.MPTCP_EVENT_ANNOUNCED, 1, remote_id=3, remote_ip=A, remote_port=8080),
            "other", "peer announced 10.0.1.1:8080 (id 3)",
        ),
        (Event(u.MPTCP_EVENT_ANNOUNCED, 1, remote_id=3, remote_ip=A), "other",
         "peer announced 10.0.1.1 (id 3)"),
        (Event(u.MPTCP_EVENT_REMOVED, 1, remote_id=3), "other", "peer removed address (id 3)"),
    ],
)  # fmt: skip
def test_words(event: Event, kind: str, text: str) -> None:
    assert happenings.of_event(event, 2.0) == (2.0, kind, 1, text)


def test_changes() -> None:
    path = subflow(11).path
    found = happenings.of_change(Change(105.0, "established", 1, subflow(11)), 100.0)
    assert found[:3] == (5.0, "appears", 1)
    assert found.text == f"subflow established 10.0.1.1:{path.local_port} → 10.0.1.2:443"
    assert happenings.of_change(Change(105.0, "closed", 1, None), 100.0).text == "connection closed"


def test_interfaces() -> None:
    assert happenings.of_interface("eth1", False, 1.0).text == "eth1 is down or has no carrier"
    assert happenings.of_interface("eth1", True, 1.0).token is None
