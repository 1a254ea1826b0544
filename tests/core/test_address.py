"""IP addresses with ports: what is taken for one, and how it prints."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcpd.core.address import SockAddr, from_packed, sockaddr

TEXTS = [
    ("10.0.1.2", SockAddr(ip_address("10.0.1.2")), "10.0.1.2"),
    ("10.0.1.2:443", SockAddr(ip_address("10.0.1.2"), 443), "10.0.1.2:443"),
    ("10.0.1.2:0", SockAddr(ip_address("10.0.1.2")), "10.0.1.2"),
    ("10.0.1.2:65535", SockAddr(ip_address("10.0.1.2"), 65535), "10.0.1.2:65535"),
    ("2001:db8::1", SockAddr(ip_address("2001:db8::1")), "2001:db8::1"),
    ("[2001:db8::1]", SockAddr(ip_address("2001:db8::1")), "2001:db8::1"),
    ("[2001:db8::1]:443", SockAddr(ip_address("2001:db8::1"), 443), "[2001:db8::1]:443"),
    ("::ffff:10.0.1.2", SockAddr(ip_address("10.0.1.2")), "10.0.1.2"),
    ("[::ffff:10.0.1.2]:443", SockAddr(ip_address("10.0.1.2"), 443), "10.0.1.2:443"),
]


@pytest.mark.parametrize(("text", "value", "printed"), TEXTS, ids=[row[0] for row in TEXTS])
def test_text(text: str, value: SockAddr, printed: str) -> None:
    assert sockaddr(text) == value
    assert str(value) == printed
    assert sockaddr(printed) == value
    assert from_packed(value.packed, value.port) == value


def test_an_ip_and_a_sockaddr_pass() -> None:
    four, six = ip_address("10.0.1.2"), ip_address("2001:db8::1")
    assert sockaddr(four) == SockAddr(four, 0)
    assert sockaddr(six) == SockAddr(six, 0)
    assert sockaddr(SockAddr(six, 9)) == SockAddr(six, 9)
    assert sockaddr(SockAddr(ip_address("::ffff:10.0.1.2"), 9)) == SockAddr(four, 9)
    assert from_packed(ip_address("::ffff:10.0.1.2").packed, 9) == SockAddr(four, 9)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "host", "10.0.1", "10.0.1.2.3", "10.0.1.2:", "10.0.1.2:65536", "10.0.1.2:-1",
        "10.0.1.2:\u0661", "10.0.1.2:+1", "10.0.1.2/24", "[10.0.1.2", "[2001:db8::1]443", "[]",
        "[2001:db8::1]:70000", "2001:db8:::1", " 10.0.1.2",
    ],
)  # fmt: skip
def test_text_that_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        sockaddr(text)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_what_is_printed_can_be_read(ip: object, port: int) -> None:
    value = from_packed(ip_address(str(ip)).packed, port)
    assert sockaddr(str(value)) == value


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        value = sockaddr(text)
    except ValueError:
        return
    assert sockaddr(str(value)) == value
