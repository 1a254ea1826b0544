"""The fake kernel answers recorded requests as the recorded kernel did; its sockets are sockets.

That plugins see the same of it as of the real one: tests/scenarios.
"""

from __future__ import annotations

import errno
import re
import select
import socket
from collections.abc import Callable

import pytest

from mptcpd.nl import genl, messages, mptcp_event, rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.client import MptcpClient, RouteClient
from mptcpd.nl.diag_client import DiagClient
from mptcpd.nl.errors import DecodeError, KernelError, NetlinkError, Overrun, Unavailable
from mptcpd.nl.mptcp import AF_INET
from mptcpd.nl.sock import CommandSocket, EventSocket
from tests.captures import record
from tests.captures.params import params
from tests.captures.record import Record
from tests.fake import moods
from tests.fake.network import NetworkTable
from tests.fake_kernel import FakeKernel, plugged

REPLIES = record.load("replies")
# What the recorded kernel was asked of its path manager, in this order.
ASKED = re.compile(r"(family/unknown|endpoints?(/none)?|add_addr/\d|(set_)?limits|error/.*)")


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel(network=NetworkTable())


@pytest.mark.parametrize("replies", params(REPLIES))
def test_recorded_requests(replies: Record) -> None:
    """Byte for byte: answers, acks, errors with their extended acks, with and without CAP_ACK."""
    # The scene's host had 10.0.1.1 and 10.0.2.1, and no 10.0.77.1.
    network = NetworkTable()
    for index in (2, 3):
        network.add_address(network.add_link(f"eth{index}"), f"10.0.{index - 1}.1/24")
    kernel = FakeKernel(network=network)
    kernel.pm.id = next(messages.split(replies.messages["limits"])).type
    names = [name.removesuffix(".request") for name in replies.messages if name.endswith("request")]
    asked = [name for name in names if ASKED.fullmatch(name)]
    assert len(asked) > 20
    for name in asked:
        answers = kernel.ask(
            u.NETLINK_GENERIC,
            replies.messages[f"{name}.request"],
            capped=not name.endswith("/whole"),
        )
        parts = re.compile(re.escape(name) + r"(\.\d+)?")
        recorded = [data for label, data in replies.messages.items() if parts.fullmatch(label)]
        found = [message for answer in answers for message in messages.split(answer)]
        assert found == [message for data in recorded for message in messages.split(data)], name


@pytest.mark.parametrize("replies", params(REPLIES))
def test_the_recorded_family(replies: Record, kernel: FakeKernel) -> None:
    """All but the operations, which nobody here reads, and the IDs, which each kernel draws."""
    (answer,) = kernel.ask(u.NETLINK_GENERIC, replies.messages["family.request"])
    ours, theirs = (
        genl.parse_family(next(messages.split(data)).payload)
        for data in (answer, replies.messages["family"])
    )
    assert ours._replace(id=0, groups={}) == theirs._replace(id=0, groups={})
    assert ours.groups.keys() == theirs.groups.keys()


def test_what_it_does_not_know(kernel: FakeKernel) -> None:
    generic, route = kernel.commands(u.NETLINK_GENERIC), kernel.commands(u.NETLINK_ROUTE)
    for sock, kind, body, number in (
        (generic, kernel.pm.id, genl.header(200), errno.EOPNOTSUPP),
        (generic, 99, genl.header(1), errno.ENOENT),
        (route, u.RTM_NEWLINK, bytes(16), errno.EOPNOTSUPP),
        (route, u.RTM_GETLINK, rtnl.get_link(77), errno.ENODEV),
        (route, u.RTM_GETROUTE, rtnl.get_route(bytes(4)), errno.ENETUNREACH),
    ):
        with pytest.raises(KernelError) as caught:
            sock.request(kind, body, "IT")
        assert caught.value.errno == number
    with plugged(kernel), pytest.raises(Unavailable):
        CommandSocket(31)


def test_what_it_does_is_told_to_subscribers_alone(kernel: FakeKernel) -> None:
    with plugged(kernel):
        route, events = EventSocket(u.NETLINK_ROUTE), EventSocket(u.NETLINK_GENERIC)
        route.join(u.RTNLGRP_LINK)
        kernel.connections.open()
        kernel.network.add_address(kernel.network.add_link("eth0"), "10.0.1.1/24")
        kernel.tell()
        # Nobody had joined the other groups; what was not told is told to nobody later.
        (told,) = route.receive()
        assert rtnl.parse(u.RTM_NEWLINK, next(messages.split(told)).payload) is not None
        assert events.receive() == []
        events.join(kernel.pm.group)
        kernel.connections.close()
        kernel.tell()
        kinds = [
            mptcp_event.parse(message.payload).kind
            for datagram in events.receive()
            for message in messages.split(datagram)
        ]
        assert kinds[-1] == u.MPTCP_EVENT_CLOSED


def test_a_full_buffer_is_congested_until_it_was_emptied(kernel: FakeKernel) -> None:
    kernel.room = 2
    with plugged(kernel):
        events = EventSocket(u.NETLINK_ROUTE, (u.RTNLGRP_LINK,), slots=1)
        for number in range(4):
            kernel.network.add_link(f"eth{number}")
            kernel.tell()
        with pytest.raises(Overrun):
            events.receive()
        assert len(events.receive()) == 1
        kernel.network.add_link("late")
        kernel.tell()  # dropped without a word: the queue has not been empty since
        assert [len(events.receive()) for _ in range(2)] == [1, 0]
        kernel.network.add_link("heard")
        kernel.tell()
        assert len(events.receive()) == 1
        assert kernel.sockets[0].dropped == 3


def test_a_signal_does_not_make_the_queue_seem_empty(kernel: FakeKernel) -> None:
    """Who has lost something reads until nothing is left, and then makes a dump."""
    with plugged(kernel):
        events = EventSocket(u.NETLINK_ROUTE, (u.RTNLGRP_LINK,))
        kernel.rumours[u.NETLINK_ROUTE].append(moods.eintr)
        kernel.network.add_link("eth0")
        kernel.tell()
        assert len(events.receive()) == 1


def test_a_descriptor_is_readable_while_something_waits(kernel: FakeKernel) -> None:
    with plugged(kernel):
        events = EventSocket(u.NETLINK_ROUTE, (u.RTNLGRP_LINK,))

        def readable() -> bool:
            return bool(select.select([events], [], [], 0)[0])

        assert not readable()
        kernel.network.add_link("eth0")
        kernel.tell()
        assert readable()
        events.receive()
        assert not readable()


def test_listening_sockets(kernel: FakeKernel) -> None:
    kernel.network.add_address(kernel.network.add_link("eth0"), "10.0.1.1/24")

    def listening(ip: str, port: int) -> None:
        kernel.open(socket.AF_INET, socket.SOCK_STREAM, u.IPPROTO_MPTCP).bind((ip, port))

    sock = kernel.open(socket.AF_INET, socket.SOCK_STREAM, u.IPPROTO_MPTCP)
    sock.bind(("10.0.1.1", 443))
    sock.listen(1)
    for ip, port, number in (("10.0.1.1", 443, errno.EADDRINUSE), ("10.9.9.9", 1, 99)):
        with pytest.raises(OSError) as caught:
            listening(ip, port)
        assert caught.value.errno == number
    sock.close()
    listening("10.0.1.1", 443)
    kernel.enabled = False
    with pytest.raises(OSError) as caught:
        listening("10.0.1.1", 444)
    assert caught.value.errno == errno.ENOPROTOOPT


# Misbehaviour, as a command socket takes it: an answer, or an error that says what is wrong.

HARMLESS = ["eagain", "late", "stale", "foreign", "doubled", "noop", "future"]
ERRORS = {
    "enobufs": Overrun,
    "never": NetlinkError,
    "short": DecodeError,
    "no_header": DecodeError,
    "too_long": DecodeError,
    "overrun": Overrun,
    "impossible": DecodeError,
    "other_answer": NetlinkError,
}


def ask_all(kernel: FakeKernel, protocol: int, name: str) -> list[object]:
    """What is answered to a question of this protocol, with a mood and once more without."""
    with plugged(kernel):
        commands = CommandSocket(protocol)
        questions: dict[int, Callable[[], object]] = {
            u.NETLINK_GENERIC: lambda: MptcpClient(commands).get_limits(),
            u.NETLINK_ROUTE: lambda: RouteClient(commands).links(),
            u.NETLINK_SOCK_DIAG: lambda: list(DiagClient(commands).connections()),
        }
        answers: list[object] = []
        for mood in (None, moods.MOODS[name], None):
            if mood is not None:
                kernel.moods[protocol].append(mood)
            try:
                answers.append(questions[protocol]())
            except NetlinkError as error:
                answers.append(error)
            assert not kernel.moods[protocol]
        return answers


PROTOCOLS = [u.NETLINK_GENERIC, u.NETLINK_ROUTE, u.NETLINK_SOCK_DIAG]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", sorted(moods.MOODS))
def test_a_mood_passes(name: str, protocol: int, kernel: FakeKernel) -> None:
    """Whatever happens to one answer, the next question is answered."""
    kernel.network.add_route(kernel.network.add_link("eth0"), AF_INET)
    kernel.connections.open()
    if name == "future":
        kernel.future()
    before, during, after = ask_all(kernel, protocol, name)
    assert before == after or name == "future"
    if name in ERRORS:
        # MptcpClient looks its family up first, and says that there is none when it is refused.
        assert isinstance(during, ERRORS[name])
    elif name in HARMLESS:
        # A dump may say the same twice.
        assert (list(dict.fromkeys(during)) if isinstance(during, list) else during) == before


def test_interrupted_dumps_are_repeated(kernel: FakeKernel) -> None:
    with plugged(kernel):
        client = RouteClient(CommandSocket(u.NETLINK_ROUTE))
        kernel.moods[u.NETLINK_ROUTE] = [moods.interrupted] * 3
        assert [link.name for link in client.links()] == ["lo"]
        kernel.moods[u.NETLINK_ROUTE] = [moods.interrupted] * 20
        with pytest.raises(NetlinkError, match="interrupted by changes 20 times"):
            client.links()


def test_the_family_vanishes_and_returns_with_another_id(kernel: FakeKernel) -> None:
    client = kernel.mptcp
    kernel.pm.there = False
    with pytest.raises(KernelError) as caught:
        client.get_limits()
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(Unavailable):
        _ = kernel.mptcp
    kernel.pm.there, kernel.pm.id = True, 0x33
    with pytest.raises(KernelError):
        client.get_limits()
    assert kernel.mptcp.get_limits() == kernel.endpoints.get_limits()
