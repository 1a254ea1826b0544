"""Address IDs: one for an address, the lowest that is free, none twice."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest

from mptcpd.core.address import SockAddr, sockaddr
from mptcpd.core.ids import MAX_ID, AddressIds, NoFreeId


def told(*endpoints: tuple[str, int]) -> list[tuple[SockAddr, int]]:
    return [(sockaddr(text), ident) for text, ident in endpoints]


def many(count: int) -> list[IPv4Address]:
    return [IPv4Address(0x0A000001 + number) for number in range(count)]


def test_the_lowest_free_one() -> None:
    ids = AddressIds()
    assert [ids.get(f"10.0.0.{number}") for number in (1, 2, 3)] == [1, 2, 3]
    assert ids.remove("10.0.0.2") == 2
    assert ids.get("10.0.0.4") == 2
    assert ids.get("10.0.0.2") == 4


@pytest.mark.parametrize(
    "same",
    [
        "10.0.0.1",
        "10.0.0.1:443",
        "::ffff:10.0.0.1",
        "[::ffff:10.0.0.1]:80",
        ip_address("10.0.0.1"),
        ip_address("::ffff:10.0.0.1"),
        SockAddr(ip_address("10.0.0.1"), 5),
    ],
    ids=repr,
)
def test_an_ip_has_one_id_whatever_its_port_and_form(same: SockAddr | str) -> None:
    ids = AddressIds()
    ids.get("10.0.0.9")
    ids.get("10.0.0.1")
    assert ids.get(same) == ids.find(same) == 2
    assert ids.remove(same) == 2
    assert ids.find("10.0.0.1") is None


def test_asked_for_what_is_not_there() -> None:
    ids = AddressIds()
    assert ids.find("10.0.0.1") is None
    assert ids.remove("10.0.0.1") is None


@pytest.mark.parametrize("text", ["", "x", "10.0.0", "10.0.0.1:x", "[10.0.0.1", "::1:x"])
def test_text_that_is_no_address(text: str) -> None:
    ids = AddressIds()
    for method in (ids.get, ids.find, ids.remove):
        with pytest.raises(ValueError, match="is no address"):
            method(text)


def test_all_255_and_not_one_more() -> None:
    ids = AddressIds()
    addresses = many(MAX_ID + 1)
    assert [ids.get(address) for address in addresses[:MAX_ID]] == list(range(1, 256))
    with pytest.raises(NoFreeId, match=r"all 255 .* 10\.0\.1\.0"):
        ids.get(addresses[MAX_ID])
    assert ids.find(addresses[MAX_ID]) is None
    assert ids.get(addresses[7]) == 8
    ids.remove(addresses[7])
    assert ids.get(addresses[MAX_ID]) == 8


def test_an_address_that_returns_gets_its_id_again() -> None:
    ids = AddressIds()
    assert [ids.get(f"10.0.0.{number}") for number in (1, 2, 3)] == [1, 2, 3]
    for number in (1, 2, 3):
        ids.remove(f"10.0.0.{number}")
    assert ids.get("10.0.0.3") == 3
    assert [ids.get(f"10.0.0.{number}") for number in (4, 1, 2)] == [1, 2, 4]


def test_the_ids_of_the_kernels_endpoints_are_kept() -> None:
    ids = AddressIds()
    ids.learn(told(("10.0.0.1", 1), ("10.0.0.2", 3)))
    assert ids.get("10.0.0.9") == 2
    assert ids.get("10.0.0.8") == 4
    assert ids.get("10.0.0.2") == 3  # that of its endpoint
    assert ids.get("10.0.0.1") == 1


def test_endpoints_that_are_gone_take_no_ids() -> None:
    """Other programs' endpoints come and go; their IDs must not be lost one after the other."""
    ids = AddressIds()
    for number in range(1000):
        ids.learn(told((f"10.0.{number // 256}.{number % 256}", number % 255 + 1)))
    ids.learn([])
    assert [ids.get(address) for address in many(MAX_ID)] == list(range(1, 256))


def test_what_was_given_out_stays_whatever_the_kernel_has() -> None:
    ids = AddressIds()
    assert ids.get("10.0.0.1") == 1
    ids.learn(told(("10.0.0.2", 1), ("10.0.0.1", 5)))  # somebody swapped them behind our back
    assert ids.get("10.0.0.1") == 1
    assert ids.get("10.0.0.2") == 2
    ids.remove("10.0.0.1")
    assert ids.get("10.0.0.1") == 5


def test_one_ip_with_two_endpoints() -> None:
    """With two ports it has two endpoints, and so two IDs in the kernel: the first is its own."""
    ids = AddressIds()
    ids.learn(told(("10.0.0.1:1000", 4), ("10.0.0.1:2000", 1)))
    assert ids.get("10.0.0.1") == 4
    assert ids.get("10.0.0.2") == 2
