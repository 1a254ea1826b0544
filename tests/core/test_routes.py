"""check_route: which answers count, and when the kernel is asked again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from mptcpd.core.loop import Timer
from mptcpd.core.routes import RouteCheck, concerns, is_default
from mptcpd.nl import rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import KernelError, NetlinkError
from tests.core.stubs import address


def route(
    oifs: tuple[int, ...] = (2,),
    *,
    dst: str | None = None,
    dst_len: int = 0,
    kind: int = u.RTN_UNICAST,
    flags: int = 0,
) -> rtnl.Route:
    packed = None if dst is None else ip_address(dst).packed
    return rtnl.Route(2, packed, dst_len, None, 254, kind, 4, flags, oifs)


class Kernel:
    """A look-up that answers as told, and a clock with the calls that are due on it."""

    def __init__(self) -> None:
        self.answer: rtnl.Route | NetlinkError | None = None
        self.asked: list[tuple[bytes, int | None, bytes | None]] = []
        self.now = 0.0
        self.due: list[tuple[float, Timer]] = []
        self.again: list[int] = []
        self.check = RouteCheck(self, self.call_later, self.again.append)

    def lookup(
        self, dst: bytes, oif: int | None = None, src: bytes | None = None
    ) -> rtnl.Route | None:
        self.asked.append((dst, oif, src))
        if isinstance(self.answer, NetlinkError):
            raise self.answer
        return self.answer

    def call_later(self, seconds: float, function: Callable[..., object], *args: Any) -> Timer:
        timer = Timer(function, args)
        self.due.append((self.now + seconds, timer))
        return timer

    def step(self) -> float:
        """Let the next call come; when that was, in ms."""
        self.due.sort(key=lambda entry: entry[0])
        self.now, timer = self.due.pop(0)
        timer.fire()
        return round(1000 * self.now, 3)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


ANSWERS = [
    ("none", None, False),
    ("default", route(), True),
    ("default of several hops", route((5, 2)), True),
    ("default elsewhere", route((3,)), False),
    ("no default", route(dst="192.0.2.0", dst_len=24), False),
    ("0.0.0.0/1", route(dst="0.0.0.0", dst_len=1), False),
    ("unreachable", route((), kind=u.RTN_UNREACHABLE), False),
    ("blackhole by lo", route(kind=u.RTN_BLACKHOLE), False),
    ("cache entry", route(flags=u.RTM_F_CLONED), False),
]


@pytest.mark.parametrize(("answer", "good"), [a[1:] for a in ANSWERS], ids=[a[0] for a in ANSWERS])
def test_which_answer_counts(kernel: Kernel, answer: rtnl.Route | None, good: bool) -> None:
    kernel.answer = answer
    assert kernel.check.has_route(address()) == good
    assert bool(kernel.due) != good


def test_what_is_asked(kernel: Kernel) -> None:
    """Where a packet from this address out of this interface to somewhere far would go."""
    kernel.answer = route()
    kernel.check.has_route(address("10.0.1.1/24", 7))
    kernel.check.has_route(address("fd00::1/64", 8))
    v4, v6 = ip_address("192.0.2.1").packed, ip_address("2001:db8::").packed
    assert kernel.asked == [
        (v4, 7, ip_address("10.0.1.1").packed),
        (v6, 8, ip_address("fd00::1").packed),
    ]


def test_asked_again_at_1_4_8_16_ms_and_no_more(kernel: Kernel) -> None:
    assert not kernel.check.has_route(address())
    assert [kernel.step() for _ in range(4)] == [1, 5, 13, 29]
    assert kernel.due == []
    assert len(kernel.asked) == 5
    assert kernel.again == []


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_route_that_comes_a_moment_later(kernel: Kernel, step: int) -> None:
    assert not kernel.check.has_route(address())
    for _ in range(step - 1):
        kernel.step()
    kernel.answer = route()
    kernel.step()
    assert kernel.again == [2]
    assert kernel.due == []


def test_one_series_for_an_address_at_a_time(kernel: Kernel) -> None:
    for _ in range(50):
        kernel.check.has_route(address())
    assert len(kernel.due) == 1
    kernel.check.has_route(address("10.0.1.1/24", 3))
    kernel.check.has_route(address("10.0.1.2/24", 2))
    assert len(kernel.due) == 3
    while kernel.due:
        kernel.step()
    assert kernel.check._waiting == set()
    kernel.check.has_route(address())
    assert len(kernel.due) == 1  # the next time begins anew


def test_nothing_stays_when_it_is_over(kernel: Kernel) -> None:
    for number in range(100):
        kernel.check.has_route(address(f"10.0.{number}.1/24"))
    kernel.step()
    kernel.answer = route()
    while kernel.due:
        kernel.step()
    assert kernel.check._waiting == set()
    assert len(kernel.again) == 100


def test_a_refusal_is_a_no_and_said_once(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.answer = KernelError("RTM_GETROUTE", 22, "Invalid values in header")
    with caplog.at_level(logging.ERROR):
        assert not kernel.check.has_route(address())
        assert not kernel.check.has_route(address("10.0.1.2/24"))
        while kernel.due:
            kernel.step()
    (record,) = caplog.records
    assert "Invalid values in header" in record.getMessage()
    assert kernel.check._waiting == set()


def test_no_answer_while_looking_again(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    """It is called by the loop, which an exception would end."""
    assert not kernel.check.has_route(address())
    kernel.answer = NetlinkError("RTM_GETROUTE: no answer")
    kernel.step()
    assert "no answer" in caplog.text
    kernel.answer = route()
    kernel.step()
    assert kernel.again == [2]


def test_no_answer_at_first_is_told(kernel: Kernel) -> None:
    kernel.answer = NetlinkError("RTM_GETROUTE: no answer")
    with pytest.raises(NetlinkError):
        kernel.check.has_route(address())
    assert kernel.due == []


@pytest.mark.parametrize(
    ("value", "default", "matters"),
    [
        (route(), True, True),
        (route(()), True, True),
        (route(dst="10.0.0.0", dst_len=8), False, False),
        (route(kind=u.RTN_UNREACHABLE), False, True),  # it may have hidden another one
        (route(flags=u.RTM_F_CLONED), False, False),
        (route()._replace(gone=True), True, True),
    ],
)
def test_notifications_that_matter(value: rtnl.Route, default: bool, matters: bool) -> None:
    assert is_default(value) == default
    assert concerns(value) == matters
