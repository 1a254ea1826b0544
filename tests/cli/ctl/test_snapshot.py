"""Joining subflows to connections: by token, by inode, by path; doubles and strangers."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mptcpd.cli.ctl import snapshot
from mptcpd.nl import diag
from mptcpd.nl import uapi as u
from tests.cli.ctl.made import CLIENT, JOIN, SERVER, connection, subflow
from tests.nl.test_diag import answer, info, ulp


class Dumps:
    """Answers of the kernel, made up; what was asked for is in ``states``."""

    def __init__(self, mptcp: list[bytes], tcp: list[bytes]) -> None:
        self._answers = {u.IPPROTO_MPTCP: mptcp, u.IPPROTO_TCP: tcp}
        self.states: dict[int, int] = {}

    def dump(self, protocol: int, states: int) -> Iterator[bytes]:
        self.states[protocol] = states
        return iter(self._answers[protocol])


def told(
    cookie: int, local: str, *parts: object, inode: int = 0, port: int = 40000
) -> bytes:
    """An answer of sock_diag with a cookie and a local end."""
    data = bytearray(answer(*parts, inode=inode, ips=(local, "10.0.1.2")))  # type: ignore[arg-type]
    struct.pack_into("=Q", data, 44, cookie)
    struct.pack_into(">H", data, 4, port)
    return bytes(data)


def mptcp(token: int, cookie: int, inode: int, local: str = "10.0.1.1", port: int = 40000) -> bytes:
    return told(cookie, local, (u.INET_DIAG_INFO, info(token)), inode=inode, port=port)


def tcp(cookie: int, token: int, flags: int, local: str = "10.0.1.1") -> bytes:
    parts = ulp(
        (u.MPTCP_SUBFLOW_ATTR_TOKEN_LOC, struct.pack("=I", token)),
        (u.MPTCP_SUBFLOW_ATTR_FLAGS, struct.pack("=I", flags)),
        (u.MPTCP_SUBFLOW_ATTR_ID_LOC, bytes([cookie % 256])),
        (u.MPTCP_SUBFLOW_ATTR_ID_REM, b"\0"),
    )
    return told(cookie, local, parts, inode=5)


def test_by_token() -> None:
    dumps = Dumps(
        [mptcp(1, 100, 5), mptcp(2, 101, 5)],
        [tcp(13, 1, JOIN), tcp(12, 1, CLIENT), tcp(11, 2, SERVER), tcp(14, 99, JOIN)],
    )
    taken = snapshot.take(dumps)
    found = {one.socket.token: [sub.cookie for sub in one.subflows] for one in taken.connections}
    assert found == {1: [12, 13], 2: [11]}  # the first subflow first; one of nobody left out
    assert [one.role for one in taken.connections] == ["client", "server"]
    assert taken.subflows == 3
    assert not taken.blind
    assert dumps.states[u.IPPROTO_MPTCP] == diag.CONNECTED
    assert dumps.states[u.IPPROTO_TCP] >> diag.TCP_SYN_SENT & 1  # a join that gets no answer


def test_without_the_right_to_see_tokens() -> None:
    """By the inode; of a connection that its program has closed, the first subflow by its path."""
    plain = (u.INET_DIAG_ULP_INFO, [(1, b"mptcp\0")])
    dumps = Dumps(
        [mptcp(1, 100, 5), mptcp(2, 101, 0, "10.0.3.1")],
        [
            told(11, "10.0.1.1", plain, inode=5), told(12, "10.0.2.1", plain, inode=5),
            told(13, "10.0.9.9", inode=6), told(14, "10.0.3.1", plain),
            told(15, "10.0.9.8", plain),
        ],
    )  # fmt: skip
    taken = snapshot.take(dumps)
    found = {one.socket.token: [sub.cookie for sub in one.subflows] for one in taken.connections}
    assert found == {1: [11, 12], 2: [14]}
    assert taken.blind
    assert [one.role for one in taken.connections] == [None, None]


def test_what_comes_twice_counts_once() -> None:
    """A dump that goes on while sockets close may tell of one again."""
    dumps = Dumps([mptcp(1, 100, 5), mptcp(1, 100, 5)], [tcp(11, 1, CLIENT), tcp(11, 1, CLIENT)])
    (one,) = snapshot.take(dumps).connections
    assert [sub.cookie for sub in one.subflows] == [11]


def test_time_is_in_the_middle() -> None:
    clock = iter([10.0, 12.0])
    assert snapshot.take(Dumps([], []), clock=lambda: next(clock)).time == 11.0


def test_role() -> None:
    assert connection(1).role is None
    assert connection(1, subflow(2, flags=JOIN)).role is None  # the first subflow is gone
    assert connection(1, subflow(1, flags=JOIN), subflow(2, flags=CLIENT)).role == "client"
    assert connection(1, subflow(2, ulp=False)).role is None
