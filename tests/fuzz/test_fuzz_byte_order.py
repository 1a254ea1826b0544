"""Claims about byte order, on a host of either kind:

1. A message in the other order is refused, never half understood.
2. A port stands on the wire as its header says, network order in events and sockets, host order in
   mptcp_pm's addresses, and comes back as itself; its bytes swapped come back as another port, from
   the compiled parser as from the plain one. No two mistakes that undo each other.
3. Turning a recording into the other order and back gives the recording.
"""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcpd.nl import attrs, diag, genl, messages, mptcp, mptcp_event
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.mptcp import Address
from mptcpd.nl.mptcp_event import Event
from tests.captures import record
from tests.captures.swapped import swapped
from tests.fuzz.nl_input import SOCKETS, attribute

OTHER = "big" if sys.byteorder == "little" else "little"
PORTS = st.integers(0, 0xFFFF)
RECORDED = [
    (kind, name, message)
    for kind in ("events", "replies")
    for recording in record.load(kind)
    for name, message in recording.messages.items()
]


@pytest.mark.parametrize("kind", ["events", "replies"])
def test_other_order_is_refused(kind: str) -> None:
    """Each message, its payload behind a header that is right: nothing of it may be believed."""
    for of, name, message in RECORDED:
        if of != kind:
            continue
        turned = swapped(of, name, message, sys.byteorder)
        with pytest.raises(DecodeError):
            list(messages.split(turned))
        payload = turned[messages.HEADER :]
        if kind == "events":
            for _known in range(2):
                with pytest.raises(DecodeError):
                    mptcp_event.parse(payload)
        elif name in ("endpoint", "limits", "family"):
            for parser in (mptcp.parse_address, mptcp.parse_limits, genl.parse_family):
                with pytest.raises(DecodeError):
                    parser(payload)


def test_recordings_turned_and_turned_back() -> None:
    for kind, name, message in RECORDED:
        turned = swapped(kind, name, message, sys.byteorder)
        assert len(turned) == len(message)
        assert turned[:4] == message[3::-1]
        assert swapped(kind, name, turned, OTHER) == message


@given(PORTS, PORTS)
def test_ports_of_events(local: int, remote: int) -> None:
    event = Event(u.MPTCP_EVENT_CREATED, 1, None, None, None, bytes(4), bytes(4), local, remote)
    built = mptcp_event.build(event)
    for kind, port in ((u.MPTCP_ATTR_SPORT, local), (u.MPTCP_ATTR_DPORT, remote)):
        assert dict(attrs.split(built, genl.HEADER))[kind] == port.to_bytes(2, "big")
        wire, turned = (attribute(kind, port.to_bytes(2, order)) for order in ("big", "little"))
        at = built.index(wire)
        other = built[:at] + turned + built[at + len(wire) :]
        swap = int.from_bytes(port.to_bytes(2, "little"), "big")
        field = "local_port" if kind == u.MPTCP_ATTR_SPORT else "remote_port"
        for _known in range(2):
            assert mptcp_event.parse(built) == mptcp_event.parse_plain(built) == event
            for parser in (mptcp_event.parse, mptcp_event.parse_plain):
                assert getattr(parser(other), field) == swap
        assert (swap == port) == (port >> 8 == port & 0xFF)


@given(st.integers(1, 0xFFFF))
def test_ports_of_addresses(port: int) -> None:
    body = mptcp.add_addr(Address(bytes(4), port, 1))
    assert attribute(u.MPTCP_PM_ADDR_ATTR_PORT, port.to_bytes(2, sys.byteorder)) in body
    answer = genl.header(u.MPTCP_PM_CMD_GET_ADDR) + body[genl.HEADER :]
    assert mptcp.parse_address(answer).port == port


@given(st.sampled_from(SOCKETS), PORTS, PORTS)
def test_ports_of_sockets(socket: bytes, local: int, remote: int) -> None:
    payload = socket[:4] + local.to_bytes(2, "big") + remote.to_bytes(2, "big") + socket[8:]
    for parser in (diag.parse_connection, diag.parse_subflow):
        for _known in range(2):
            try:
                found = parser(payload)
            except DecodeError:
                continue  # a subflow is no connection
            if found is not None:
                assert (found.path.local_port, found.path.remote_port) == (local, remote)
    path = diag.Path(bytes(4), local, bytes(4), remote)
    request = diag.request(mptcp.AF_INET, u.IPPROTO_MPTCP, 2, path=path)
    assert request[8:12] == local.to_bytes(2, "big") + remote.to_bytes(2, "big")
