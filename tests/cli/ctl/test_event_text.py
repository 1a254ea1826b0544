"""Events to text and JSON: what iproute2 7.3 printed for the same events, byte for byte."""

from __future__ import annotations

import json
import time

import pytest

from mptcpd.cli.ctl import endpoint, event_text
from mptcpd.cli.ctl.event_text import EventText
from mptcpd.cli.ctl.output import Output, Settings
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp_event import EVENTS, Event

NEAR, FAR = b"\x0a\0\1\1", b"\x0a\0\1\2"
MAPPED = bytes(10) + b"\xff\xff" + NEAR
CREATED = Event(u.MPTCP_EVENT_CREATED, 0x3C910FF, 2, 0, 0, NEAR, FAR, 34990, 10001)
CLOSED = Event(u.MPTCP_EVENT_CLOSED, 0x3C910FF)
SUB = Event(u.MPTCP_EVENT_SUB_CLOSED, 0xEA0EBA93, 10, 1, 2, MAPPED, MAPPED, 1, 2, backup=1)


@pytest.fixture(autouse=True)
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {3: "eth1", 4: 'we"ird'}
    monkeypatch.setattr(event_text, "interface_name", lambda n: names.get(n, f"if{n}"))


@pytest.mark.parametrize(
    ("event", "text", "record"),
    [
        (Event(u.MPTCP_EVENT_LISTENER_CREATED, local_ip=bytes(16), local_port=10001),
         "[LISTENER_CREATED] saddr6=:: sport=10001",
         '{"event":"LISTENER_CREATED","saddr6":"::","sport":10001}'),
        (CREATED,
         "[         CREATED] token=03c910ff remid=0 locid=0 saddr4=10.0.1.1 daddr4=10.0.1.2 "
         "sport=34990 dport=10001",
         '{"event":"CREATED","token":"0x3c910ff","remid":0,"locid":0,"saddr4":"10.0.1.1",'
         '"daddr4":"10.0.1.2","sport":34990,"dport":10001}'),
        (CREATED._replace(kind=u.MPTCP_EVENT_ESTABLISHED, server_side=1),
         "[     ESTABLISHED] token=03c910ff remid=0 locid=0 saddr4=10.0.1.1 daddr4=10.0.1.2 "
         "sport=34990 dport=10001 server_side",
         '{"event":"ESTABLISHED","token":"0x3c910ff","remid":0,"locid":0,"saddr4":"10.0.1.1",'
         '"daddr4":"10.0.1.2","sport":34990,"dport":10001,"server_side":true}'),
        (CLOSED._replace(flags=0xB, server_side=0),  # bits that no kernel sets today
         "[          CLOSED] token=03c910ff server_side deny_join_id0 flags=0x8",
         '{"event":"CLOSED","token":"0x3c910ff","server_side":true,"deny_join_id0":true,'
         '"flags":"0x8"}'),
        (CLOSED, "[          CLOSED] token=03c910ff", '{"event":"CLOSED","token":"0x3c910ff"}'),
        (Event(u.MPTCP_EVENT_REMOVED, 1, remote_id=7),
         "[         REMOVED] token=00000001 remid=7",
         '{"event":"REMOVED","token":"0x1","remid":7}'),
        (SUB._replace(error=104, reset_reason=0, reset_flags=0),
         "[       SF_CLOSED] token=ea0eba93 remid=2 locid=1 saddr6=::ffff:10.0.1.1 "
         "daddr6=::ffff:10.0.1.1 sport=1 dport=2 backup=1 error=104 reset_reason=0 reset_flags=0",
         '{"event":"SF_CLOSED","token":"0xea0eba93","remid":2,"locid":1,'
         '"saddr6":"::ffff:10.0.1.1","daddr6":"::ffff:10.0.1.1","sport":1,"dport":2,"backup":1,'
         '"error":104,"reset_reason":0,"reset_flags":"0"}'),
        (SUB._replace(reset_flags=4, timeout=5, ifindex=3),
         "[       SF_CLOSED] token=ea0eba93 remid=2 locid=1 saddr6=::ffff:10.0.1.1 "
         "daddr6=::ffff:10.0.1.1 sport=1 dport=2 backup=1 timeout=5 ifindex=3 dev=eth1 "
         "reset_flags=0x4",
         '{"event":"SF_CLOSED","token":"0xea0eba93","remid":2,"locid":1,'
         '"saddr6":"::ffff:10.0.1.1","daddr6":"::ffff:10.0.1.1","sport":1,"dport":2,"backup":1,'
         '"timeout":5,"ifindex":3,"dev":"eth1","reset_flags":"0x4"}'),
        (Event(99, 0xFFFFFFFF, ifindex=4),
         '[      UNKNOWN 99] token=ffffffff ifindex=4 dev=we"ird',
         '{"event":"UNKNOWN 99","token":"0xffffffff","ifindex":4,"dev":"we\\"ird"}'),
        (Event(100, ifindex=9), "[     UNKNOWN 100] ifindex=9 dev=if9",
         '{"event":"UNKNOWN 100","ifindex":9,"dev":"if9"}'),
    ],
)  # fmt: skip
def test_forms(event: Event, text: str, record: str) -> None:
    for settings, expected in ((Settings(), text), (Settings(json=True), record)):
        make = EventText(Output(settings))
        # Again: the second time the shape is known.
        assert [make(event), make(event)] == [expected, expected]
    pretty = EventText(Output(Settings(json=True, pretty=True)))(event)
    assert json.loads(pretty) == json.loads(record)
    assert pretty.startswith('{\n        "event": "') and pretty.endswith("\n    }")


def test_values_of_one_shape_are_not_mixed_up() -> None:
    make = EventText(Output(Settings()))
    events = [CREATED, CREATED._replace(token=1, local_port=2, remote_ip=MAPPED), CREATED]
    assert [make(e) for e in events] == [EventText(Output(Settings()))(e) for e in events]
    assert "daddr6=::ffff:10.0.1.1" in make(events[1])


def test_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    for settings, expected in (
        (Settings(stamp="short"), "[2026-11-23T18:01:24.000042] [          CLOSED]"),
        (Settings(stamp="long"), "Timestamp: Mon Nov 23 18:01:24 2026 42 usec\n[          CLOSED]"),
        (Settings(stamp="long", json=True),
         '{"timestamp":"Mon Nov 23 18:01:24 2026 42 usec","event":"CLOSED"'),
        (Settings(stamp="short", json=True, pretty=True),
         '{\n        "timestamp_short": "2026-11-23T18:01:24.000042",\n        "event": "CLOSED"'),
    ):  # fmt: skip
        make = EventText(Output(settings), lambda: 1795456884_000042)
        assert make(CLOSED).startswith(expected)


def test_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLORFGBG", raising=False)
    text = EventText(Output(Settings(colour=True)))(CREATED._replace(ifindex=3))
    assert "saddr4=\033[1;35m10.0.1.1\033[0m daddr4=\033[1;35m10.0.1.2\033[0m sport" in text
    assert text.endswith("ifindex=3 dev=\033[1;36meth1\033[0m")


def test_every_event_has_a_name() -> None:
    assert event_text.NAMES.keys() == EVENTS.keys() - {0}
    assert endpoint.shown_ip(MAPPED) == ("::ffff:10.0.1.1", "ipv6")
