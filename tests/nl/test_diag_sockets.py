"""sock_diag for people: the answers of test_diag read whole, unprivileged ones, bad ones."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mptcpd.nl import attrs, diag, diag_sockets, messages
from mptcpd.nl import uapi as u
from mptcpd.nl.diag_sockets import MptcpSocket, TcpSocket, parse_mptcp, parse_tcp
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.info import mptcp_info, tcp_info
from mptcpd.nl.mptcp import AF_INET, AF_INET6
from tests.captures import record
from tests.captures.scene import OURS
from tests.nl.test_diag import MPTCP, V4, V6, answer, info, ulp


@pytest.fixture(autouse=True)
def nothing_learnt() -> None:
    diag_sockets._MPTCP.clear()
    diag_sockets._TCP.clear()


def path(ips: tuple[str, str]) -> diag.Path:
    return diag.Path(ip_address(ips[0]).packed, 40000, ip_address(ips[1]).packed, 8080)


@pytest.mark.parametrize(("family", "ips"), [(AF_INET, V4), (AF_INET6, V6)])
def test_mptcp(family: int, ips: tuple[str, str]) -> None:
    told = info(0xDEADBEEF, 3)
    data = answer((8, b"\0"), (u.INET_DIAG_INFO, told), family=family, ips=ips, state=4, ifindex=3)
    # answer() counts 1, 2, 3 for idiag_expires, idiag_rqueue and idiag_wqueue
    cookie = 0xFFFFFFFFFFFFFFFF
    expected = MptcpSocket(path(ips), 4, 3, cookie, 2, 3, 1000, 77, 3, 0xDEADBEEF, told)
    for _plain_then_known in range(3):
        assert parse_mptcp(data) == expected


@pytest.mark.parametrize(("family", "ips"), [(AF_INET, V4), (AF_INET6, V6)])
def test_tcp(family: int, ips: tuple[str, str]) -> None:
    told = bytes(range(200)) + bytes(80)
    data = answer((u.INET_DIAG_INFO, told), ulp(*MPTCP), family=family, ips=ips, ifindex=2)
    cookie = 0xFFFFFFFFFFFFFFFF
    expected = TcpSocket(path(ips), 1, 2, cookie, 1000, 77, True, 0xDEADBEEF, 0xCC, 7, 2, told)
    for _plain_then_known in range(3):
        assert parse_tcp(data) == expected


def test_families_of_one_length_do_not_disturb_each_other() -> None:
    four = answer((u.INET_DIAG_INFO, info(1)), ips=V4)
    six = answer((u.INET_DIAG_INFO, info(2)), family=AF_INET6, ips=V6)
    for _time in range(2):
        assert parse_mptcp(four).path == path(V4)
        assert parse_mptcp(six).path == path(V6)
    assert len(diag_sockets._MPTCP) == 2


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (ulp(),),
        ((u.INET_DIAG_ULP_INFO, [(1, b"mptcp\0")]),),
        ((u.INET_DIAG_ULP_INFO, [(1, b"tls\0"), (2, [(1, b"\4\3")])]),),
        (ulp(MPTCP[-1]),),
    ],
)
def test_what_tells_nothing_of_mptcp(parts: tuple[tuple[int, attrs.Payload], ...]) -> None:
    """The inode is still there: by it a subflow is found where the token is kept from us."""
    for _time in range(2):
        found = parse_tcp(answer((u.INET_DIAG_INFO, bytes(280)), *parts, ips=V4))
        assert not found.ulp
        assert found[7:11] == (0, 0, 0, 0)
        assert found.inode == 77


def test_no_tcp_info() -> None:
    assert parse_tcp(answer(ips=V4)).info == b""


@pytest.mark.parametrize(
    ("parse", "data", "words"),
    [
        (parse_mptcp, b"", "inet_diag_msg: 0 bytes instead of 72"),
        (parse_tcp, answer()[:71], "inet_diag_msg: 71 bytes instead of 72"),
        (parse_tcp, answer(family=1), "address family 1"),
        (parse_mptcp, answer(), "INET_DIAG_INFO: 0 bytes, at least 16"),
        (parse_mptcp, answer((u.INET_DIAG_INFO, bytes(15))), "INET_DIAG_INFO: 15 bytes"),
        (parse_tcp, answer((u.INET_DIAG_ULP_INFO, b"\xff\xff\3\0")), "length 65535"),
        (
            parse_tcp,
            answer(ulp((u.MPTCP_SUBFLOW_ATTR_TOKEN_LOC, b"1"))),
            "attribute 2 of a subflow: 1 bytes instead of 4",
        ),
    ],
)
def test_malformed(parse: object, data: bytes, words: str) -> None:
    assert callable(parse)
    for _again in range(2):
        with pytest.raises(DecodeError, match=words):
            parse(data)


def test_no_more_shapes_than_some_are_remembered() -> None:
    for size in range(100):
        more = (8, bytes(4 * size))  # each makes a message of another length
        assert parse_mptcp(answer(more, (u.INET_DIAG_INFO, info(size)))).token == size
        assert parse_tcp(answer(more, ulp(*MPTCP))).token == 0xDEADBEEF
    assert len(diag_sockets._MPTCP) == 64
    assert len(diag_sockets._TCP) == 64


@pytest.mark.parametrize("flavour", ["ipv4", "ipv6"])
@pytest.mark.parametrize(
    "recording", record.load("replies"), ids=lambda one: one.kernel.partition(",")[0]
)
def test_recorded(recording: record.Record, flavour: str) -> None:
    """What a kernel said of a connection with two subflows."""
    def payloads(what: str) -> list[bytes]:
        return [
            message.payload
            for index in range(9) if (label := f"{what}/{flavour}.{index}") in recording.messages
            for message in messages.split(recording.messages[label])
            if message.type == u.SOCK_DIAG_BY_FAMILY
        ]  # fmt: skip

    (connection,) = map(parse_mptcp, payloads("connections"))
    plain = diag.parse_connection(payloads("connections")[0])
    assert (connection.path, connection.token, connection.inode, connection.info) == (
        plain.path, plain.token, plain.inode, plain.info,
    )  # fmt: skip
    assert mptcp_info(connection.info).subflows == 1
    found = [one for one in map(parse_tcp, payloads("subflows")) if one.ulp]
    assert {one.inode for one in found} == {connection.inode}
    assert {one.token for one in found} == {connection.token}
    assert sorted(one.local_id for one in found) == [0, OURS]
    assert len({connection.cookie, *(one.cookie for one in found)}) == 3
    for one in found:
        assert 0 < (tcp_info(one.info).rtt or 0) < 1_000_000
