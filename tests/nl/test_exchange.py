"""Conversations in bytes: which message answers which request, and how an answer ends."""

from __future__ import annotations

import errno
import sys

import pytest

from mptcpd.nl import attrs, genl, messages, mptcp
from mptcpd.nl.errors import DecodeError, KernelError, Overrun
from mptcpd.nl.exchange import Exchange, Names, blame
from mptcpd.nl.messages import Ack
from mptcpd.nl.mptcp import Address
from mptcpd.nl.uapi import (
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_MULTI,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSG_NOOP,
    NLMSG_OVERRUN,
    NLMSGERR_ATTR_MISS_NEST,
    NLMSGERR_ATTR_MISS_TYPE,
    NLMSGERR_ATTR_MSG,
    NLMSGERR_ATTR_OFFS,
)

FAMILY, SEQ, PORTID = 0x1D, 7, 4711
BODY = mptcp.add_addr(Address(b"\x0a\0\0\1", id=5, flags=1))


def number(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder, signed=value < 0)


def exchange(flags: int, body: bytes = BODY, names: Names | None = mptcp.NAMES) -> Exchange:
    request = messages.build(FAMILY, NLM_F_REQUEST | flags, SEQ, PORTID, body)
    return Exchange("COMMAND", request, names=names)


def reply(
    payload: bytes, kind: int = FAMILY, flags: int = 0, seq: int = SEQ, portid: int = PORTID
) -> bytes:
    return messages.build(kind, flags, seq, portid, payload)


def ack(error: int = 0, tlvs: list[tuple[int, attrs.Payload]] | None = None) -> bytes:
    """NLMSG_ERROR as a socket with NETLINK_CAP_ACK gets it."""
    payload = number(-error) + messages.build(FAMILY, 5, SEQ, PORTID, b"") + attrs.build(tlvs or ())
    return reply(payload, NLMSG_ERROR, NLM_F_CAPPED | (NLM_F_ACK_TLVS if tlvs else 0))


def done(error: int = 0, flags: int = 0) -> bytes:
    return reply(number(-error), NLMSG_DONE, NLM_F_MULTI | flags)


def part(payload: bytes, flags: int = 0) -> bytes:
    return reply(payload, flags=NLM_F_MULTI | flags)


# --- answers ---------------------------------------------------------------------------------


def test_a_question_ends_with_its_answer() -> None:
    answer = exchange(0)
    assert answer.feed(reply(b"yes!"))
    assert (answer.replies, answer.stray, answer.interrupted) == ([b"yes!"], 0, False)


def test_a_command_ends_with_its_ack() -> None:
    answer = exchange(NLM_F_ACK)
    assert answer.feed(ack())
    assert answer.replies == []


def test_an_ack_after_the_reply() -> None:
    for datagrams in ([reply(b"yes!"), ack()], [reply(b"yes!") + ack()]):
        answer = exchange(NLM_F_ACK)
        assert [answer.feed(datagram) for datagram in datagrams][-1]
        assert answer.replies == [b"yes!"]
        assert answer.done
    answer = exchange(NLM_F_ACK)
    assert not answer.feed(reply(b"yes!"))  # the ack is still to come, and would confuse the next


def test_a_dump_ends_with_done() -> None:
    answer = exchange(NLM_F_DUMP)
    assert not answer.feed(part(b"1111") + part(b"2222"))
    assert not answer.feed(part(b"3333"))
    assert answer.feed(part(b"4444") + done())
    assert answer.replies == [b"1111", b"2222", b"3333", b"4444"]


def test_a_malformed_part_of_a_dump() -> None:
    """The answers before it count for nothing: the dump is not whole."""
    for bad in (part(b"2222") + b"\1\2", part(b"2222")[:-1], part(b"2222") + bytes(16)):
        answer = exchange(NLM_F_DUMP)
        with pytest.raises(DecodeError):
            answer.feed(part(b"1111") + bad)
        assert not answer.done


def test_a_dump_of_nothing() -> None:
    answer = exchange(NLM_F_DUMP)
    assert answer.feed(done())
    assert answer.replies == []


def test_half_of_the_dump_flags_makes_no_dump() -> None:
    """NLM_F_REPLACE and NLM_F_EXCL of a change have the bits of NLM_F_ROOT and NLM_F_MATCH."""
    for flag in (0x100, 0x200):
        assert exchange(flag).feed(reply(b"yes!"))


def test_noop_is_nothing() -> None:
    answer = exchange(0)
    assert not answer.feed(reply(b"", NLMSG_NOOP))
    assert answer.feed(reply(b"yes!"))
    assert answer.replies == [b"yes!"]


def test_what_answers_something_else_is_dropped_and_counted() -> None:
    answer = exchange(0)
    others = [
        reply(b"old!", seq=SEQ - 1),
        reply(b"else", portid=PORTID + 1),
        reply(b"", NLMSG_ERROR, seq=SEQ + 1),  # malformed, but not ours to read
        reply(b"", NLMSG_DONE, seq=0),
        reply(b"", NLMSG_OVERRUN, portid=0),
        reply(b"", seq=SEQ - 1, flags=NLM_F_DUMP_INTR),
    ]
    for datagram in others:
        assert not answer.feed(datagram)
    assert answer.stray == len(others)
    assert answer.feed(others[0] + reply(b"mine") + others[1])
    assert answer.replies == [b"mine"]
    assert answer.stray == len(others) + 2
    assert not answer.interrupted


def test_more_of_the_same_after_the_end_is_stray() -> None:
    answer = exchange(0)
    assert answer.feed(reply(b"yes!") + reply(b"no!!"))
    assert (answer.replies, answer.stray) == ([b"yes!"], 1)


# --- interrupted dumps -----------------------------------------------------------------------


@pytest.mark.parametrize("place", range(3))
def test_an_interrupted_dump(place: int) -> None:
    """The flag may be on any message, on the last one alone too."""
    flags = [NLM_F_DUMP_INTR if place == index else 0 for index in range(3)]
    answer = exchange(NLM_F_DUMP)
    answer.feed(part(b"1111", flags[0]) + part(b"2222", flags[1]))
    assert answer.feed(done(flags=flags[2]))
    assert answer.interrupted
    assert answer.replies == [b"1111", b"2222"]


# --- errors ----------------------------------------------------------------------------------


def test_refused() -> None:
    with pytest.raises(KernelError) as caught:
        exchange(NLM_F_ACK).feed(ack(errno.EPERM))
    error = caught.value
    assert (error.command, error.errno, error.words, error.attribute) == (
        "COMMAND", errno.EPERM, None, None,
    )  # fmt: skip


def test_an_error_in_the_middle_of_a_dump() -> None:
    answer = exchange(NLM_F_DUMP)
    assert not answer.feed(part(b"1111"))
    with pytest.raises(KernelError) as caught:
        answer.feed(part(b"2222") + ack(errno.ENOBUFS, [(NLMSGERR_ATTR_MSG, b"words\0")]))
    assert (caught.value.errno, caught.value.words) == (errno.ENOBUFS, "words")


def test_done_with_an_error() -> None:
    with pytest.raises(KernelError) as caught:
        exchange(NLM_F_DUMP).feed(done(errno.EBUSY))
    assert (caught.value.errno, caught.value.words) == (errno.EBUSY, None)


def test_done_with_an_error_and_words() -> None:
    payload = number(-errno.EINVAL) + attrs.build([(NLMSGERR_ATTR_MSG, b"invalid token\0")])
    data = reply(payload, NLMSG_DONE, NLM_F_MULTI | NLM_F_ACK_TLVS)
    with pytest.raises(KernelError) as caught:
        exchange(NLM_F_DUMP).feed(data)
    assert (caught.value.errno, caught.value.words) == (errno.EINVAL, "invalid token")


def test_overrun() -> None:
    with pytest.raises(Overrun, match="COMMAND: the kernel lost a part of the answer"):
        exchange(NLM_F_DUMP).feed(reply(b"", NLMSG_OVERRUN))


@pytest.mark.parametrize(
    "data",
    [
        b"\1",
        reply(b"yes!")[:-1],
        reply(b"", NLMSG_ERROR),
        reply(b"1", NLMSG_DONE),
        reply(number(1) + bytes(16), NLMSG_ERROR),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(DecodeError):
        exchange(NLM_F_ACK).feed(data)


# --- which attribute the kernel means --------------------------------------------------------

# BODY behind the nlmsghdr (16 bytes) and the genlmsghdr (4): the nest at 20, in it the family at
# 24, ADDR4 at 32, the ID at 40, the flags at 48. An extended ack points at the attribute's header.
REQUEST = messages.build(FAMILY, NLM_F_REQUEST | NLM_F_ACK, SEQ, PORTID, BODY)
START = messages.HEADER + genl.HEADER


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (Ack(22), None),
        (Ack(22, "words alone"), None),
        (Ack(22, offset=20), "MPTCP_PM_ATTR_ADDR"),
        (Ack(22, offset=24), "MPTCP_PM_ADDR_ATTR_FAMILY"),
        (Ack(22, offset=32), "MPTCP_PM_ADDR_ATTR_ADDR4"),
        (Ack(22, offset=40), "MPTCP_PM_ADDR_ATTR_ID"),
        (Ack(22, offset=48), "MPTCP_PM_ADDR_ATTR_FLAGS"),
        (Ack(22, offset=50), None),  # into an attribute, not at one
        (Ack(22, offset=0), None),
        (Ack(22, offset=16), None),
        (Ack(22, offset=len(REQUEST)), None),
        (Ack(22, offset=0xFFFFFFFF), None),
        (Ack(22, miss_type=4), "MPTCP_PM_ATTR_TOKEN"),
        (Ack(22, miss_type=99), "number 99"),
        (Ack(22, miss_type=6, miss_nest=20), "MPTCP_PM_ADDR_ATTR_FLAGS"),
        (Ack(22, miss_type=99, miss_nest=20), "number 99"),
        (Ack(22, miss_type=2, miss_nest=24), "number 2"),  # in what is no nest of ours
        (Ack(22, miss_type=2, miss_nest=23), "number 2"),
        (Ack(22, offset=24, miss_type=4), "MPTCP_PM_ATTR_TOKEN"),  # what is missing says more
    ],
)
def test_blame(answer: Ack, name: str | None) -> None:
    assert blame(answer, REQUEST, START, mptcp.NAMES) == name


def test_blame_without_names() -> None:
    assert blame(Ack(22, offset=20), REQUEST, START, {}) == "number 1"
    assert blame(Ack(22, offset=40), REQUEST, START, {}) == "number 2"
    assert blame(Ack(22, miss_type=3), REQUEST, START, {}) == "number 3"
    assert blame(Ack(22, miss_type=3, miss_nest=20), REQUEST, START, {}) == "number 3"


def test_blame_in_the_second_nest() -> None:
    body = mptcp.subflow_create(1, Address(b"\x0a\0\0\1"), Address(b"\x0a\0\0\2", 80))
    request = messages.build(FAMILY, 5, SEQ, PORTID, body)
    second = START + 8 + 20
    assert blame(Ack(22, offset=second), request, START, mptcp.NAMES) == "MPTCP_PM_ATTR_ADDR_REMOTE"
    port = Ack(22, offset=second + 4 + 8 + 8)
    assert blame(port, request, START, mptcp.NAMES) == "MPTCP_PM_ADDR_ATTR_PORT"
    missing = Ack(22, miss_type=2, miss_nest=second)
    assert blame(missing, request, START, mptcp.NAMES) == "MPTCP_PM_ADDR_ATTR_ID"


def test_blame_inside_of_what_is_no_nest() -> None:
    """The kernel's refusal is what counts: that its attribute cannot be found hides nothing."""
    body = genl.header(1) + attrs.build([(2, bytes(8)), (3, b"")])
    request = messages.build(FAMILY, 5, SEQ, PORTID, body)
    for offset in (24, 28):
        assert blame(Ack(22, offset=offset), request, START, mptcp.NAMES) is None
    assert blame(Ack(22, offset=32), request, START, mptcp.NAMES) == "MPTCP_PM_ATTR_SUBFLOWS"
    cut = REQUEST[:20] + bytes(4)
    assert blame(Ack(22, offset=20), cut, START, mptcp.NAMES) is None


@pytest.mark.parametrize(
    ("tlvs", "words", "attribute"),
    [
        ([(NLMSGERR_ATTR_MISS_TYPE, number(6)), (NLMSGERR_ATTR_MISS_NEST, number(20))],
         None, "MPTCP_PM_ADDR_ATTR_FLAGS"),
        ([(NLMSGERR_ATTR_MSG, b"invalid\0"), (NLMSGERR_ATTR_OFFS, number(40))],
         "invalid", "MPTCP_PM_ADDR_ATTR_ID"),
        ([(NLMSGERR_ATTR_MSG, b"invalid\0")], "invalid", None),
    ],
)  # fmt: skip
def test_an_error_names_the_attribute(
    tlvs: list[tuple[int, attrs.Payload]], words: str | None, attribute: str | None
) -> None:
    with pytest.raises(KernelError) as caught:
        exchange(NLM_F_ACK).feed(ack(errno.EINVAL, tlvs))
    assert (caught.value.words, caught.value.attribute) == (words, attribute)


def test_the_family_s_header_is_not_an_attribute() -> None:
    """Offsets count from the message's first byte, whatever header the family has."""
    body = bytes(12) + attrs.build([(1, b"1234"), (2, b"5678")])
    request = messages.build(28, NLM_F_REQUEST, SEQ, PORTID, body)
    names: Names = {1: ("RTA_DST", {}), 2: ("RTA_SRC", {})}
    answer = Exchange("RTM_GETROUTE", request, header=12, names=names)
    with pytest.raises(KernelError) as caught:
        answer.feed(ack(errno.EINVAL, [(NLMSGERR_ATTR_OFFS, number(16 + 12 + 8))]))
    assert caught.value.attribute == "RTA_SRC"
