"""What is asked of sock_diag and what becomes of the answers; a script stands for the kernel."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from mptcpd.nl import attrs, diag
from mptcpd.nl import uapi as u
from mptcpd.nl.diag import Path
from mptcpd.nl.diag_client import DiagClient
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import AF_INET, AF_INET6

Answer = list[bytes] | KernelError


class Scripted:
    """Answers request after request with what it was given, and keeps what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, bytes]] = []

    def _answer(self, how: str, kind: int, body: bytes, command: str, header: int) -> list[bytes]:
        known = {u.SOCK_DIAG_BY_FAMILY: "SOCK_DIAG_BY_FAMILY", u.SOCK_DESTROY: "SOCK_DESTROY"}
        assert (command, header) == (known[kind], 56)
        self.asked.append((how if kind == u.SOCK_DIAG_BY_FAMILY else "destroy", body))
        answer = self.answers.pop(0)
        if isinstance(answer, KernelError):
            raise answer
        return answer

    def stream(self, kind: int, body: bytes, command: str, *, header: int) -> Iterator[bytes]:
        yield from self._answer("stream", kind, body, command, header)

    def request(
        self, kind: int, body: bytes, command: str, *, flags: int, header: int
    ) -> list[bytes]:
        assert flags == (u.NLM_F_ACK if kind == u.SOCK_DESTROY else 0)
        return self._answer("request", kind, body, command, header)


def sock(token: int, *, subflow: bool, family: int = AF_INET) -> bytes:
    head = struct.pack("=BBBB", family, 1, 0, 0) + struct.pack(">HH", 1, 2) + bytes(64)
    if not subflow:
        return head + attrs.build([(u.INET_DIAG_INFO, bytes(12) + struct.pack("=I", token))])
    inner: attrs.Payload = [(u.MPTCP_SUBFLOW_ATTR_TOKEN_LOC, struct.pack("=I", token))]
    return head + attrs.build([(u.INET_DIAG_ULP_INFO, [(u.INET_ULP_INFO_MPTCP, inner)])])


def refusal(number: int) -> KernelError:
    return KernelError("SOCK_DIAG_BY_FAMILY", number)


def test_connections_of_both_families() -> None:
    script = Scripted(
        [sock(1, subflow=False), sock(2, subflow=False)],
        [sock(3, subflow=False, family=AF_INET6)],
    )
    assert [found.token for found in DiagClient(script).connections()] == [1, 2, 3]
    assert script.asked == [
        ("stream", diag.request(family, u.IPPROTO_MPTCP, diag.CONNECTED))
        for family in (AF_INET, AF_INET6)
    ]


def test_subflows_of_both_families_and_no_plain_tcp() -> None:
    plain = sock(0, subflow=False)
    script = Scripted([plain, sock(1, subflow=True)], [sock(2, subflow=True, family=AF_INET6)])
    assert [found.token for found in DiagClient(script).subflows(0xFFF)] == [1, 2]
    assert script.asked == [
        ("stream", diag.request(family, socket.IPPROTO_TCP, 0xFFF))
        for family in (AF_INET, AF_INET6)
    ]


def test_a_kernel_without_ipv6() -> None:
    script = Scripted([sock(1, subflow=False)], refusal(errno.ENOENT))
    assert [found.token for found in DiagClient(script).connections()] == [1]


@pytest.mark.parametrize(
    "answers", [(refusal(errno.ENOENT), []), ([], refusal(errno.EPERM)), (refusal(errno.EPERM),)]
)
def test_a_dump_refused(answers: tuple[Answer, ...]) -> None:
    with pytest.raises(KernelError):
        list(DiagClient(Scripted(*answers)).connections())


def test_one_connection() -> None:
    script = Scripted([sock(7, subflow=False)], refusal(errno.ENOENT), refusal(errno.EPERM))
    client = DiagClient(script)
    found = client.connection(7)
    assert found is not None
    assert found.token == 7
    assert client.connection(8) is None
    with pytest.raises(KernelError):
        client.connection(9)
    assert script.asked == [
        ("request", diag.request(AF_INET, u.IPPROTO_MPTCP, 0xFFF, token=token))
        for token in (7, 8, 9)
    ]


@pytest.mark.parametrize("size", [4, 16])
def test_one_subflow(size: int) -> None:
    path = Path(bytes(size), 1, bytes(size), 2)
    family = AF_INET if size == 4 else AF_INET6
    gone = refusal(errno.ESTALE)
    script = Scripted([sock(7, subflow=True, family=family)], gone, [sock(7, subflow=False)])
    client = DiagClient(script)
    found = client.subflow(path, 5)
    assert found is not None
    assert (found.token, found.path) == (7, path)
    assert client.subflow(path) is None
    assert client.subflow(path) is None  # plain TCP
    bound, body = (
        diag.request(family, socket.IPPROTO_TCP, 0xFFF, path=path, ifindex=ifindex)
        for ifindex in (5, 0)
    )
    assert script.asked == [("request", bound)] + [("request", body)] * 2


def test_a_socket_is_aborted() -> None:
    path = Path(bytes(4), 1, bytes(4), 2)
    refused = map(refusal, (errno.ENOENT, errno.EOPNOTSUPP, errno.EPERM))
    script = Scripted([], *refused)
    client = DiagClient(script)
    for _time in range(3):
        client.destroy(path, 4)
    with pytest.raises(KernelError):
        client.destroy(path, 4)
    body = diag.request(AF_INET, socket.IPPROTO_TCP, 0xFFF, path=path, ifindex=4)
    assert script.asked == [("destroy", body)] * 4
