"""nlmsghdr: splitting datagrams; acks, the three shapes of extended acks, ends of dumps."""

from __future__ import annotations

import sys

import pytest

from mptcpd.nl import attrs, messages
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.messages import Ack, Message
from mptcpd.nl.uapi import (
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_REQUEST,
    NLMSGERR_ATTR_COOKIE,
    NLMSGERR_ATTR_MISS_NEST,
    NLMSGERR_ATTR_MISS_TYPE,
    NLMSGERR_ATTR_MSG,
    NLMSGERR_ATTR_OFFS,
    NLMSGERR_ATTR_POLICY,
)

little = pytest.mark.skipif(sys.byteorder == "big", reason="the table holds little-endian bytes")

# Message and its bytes.
TABLE = [
    (Message(0x10, 5, 1, 0, b""), "10000000 1000 0500 01000000 00000000"),
    (
        Message(0x1D, 0x301, 0xFFFFFFFF, 0x01020304, b"abcd"),
        "14000000 1d00 0103 ffffffff 04030201 61626364",
    ),
    (Message(3, 2, 7, 9, b"\0\0\0\0"), "14000000 0300 0200 07000000 09000000 00000000"),
]


@little
@pytest.mark.parametrize(("message", "text"), TABLE)
def test_both_ways(message: Message, text: str) -> None:
    data = bytes.fromhex(text)
    assert messages.build(*message) == data
    assert list(messages.split(data)) == [message]


def test_several_messages_in_order() -> None:
    all_of_them = [message for message, _ in TABLE]
    data = b"".join(messages.build(*message) for message in all_of_them)
    assert list(messages.split(data)) == all_of_them


def test_an_empty_datagram_holds_nothing() -> None:
    assert list(messages.split(b"")) == []


def test_a_payload_is_padded_but_the_pad_is_no_part_of_it() -> None:
    odd = messages.build(16, 0, 1, 2, b"abcde")
    after = messages.build(17, 0, 3, 4, b"")
    assert list(messages.split(odd + bytes(3) + after)) == [
        Message(16, 0, 1, 2, b"abcde"),
        Message(17, 0, 3, 4, b""),
    ]
    assert list(messages.split(odd)) == [Message(16, 0, 1, 2, b"abcde")]  # the last pad may miss


@little
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10", "offset 0: 1 bytes are no header"),
        ("10000000 1000 0500 01000000 000000", "offset 0: 15 bytes are no header"),
        ("00000000 1000 0500 01000000 00000000", "offset 0: length 0 is below its header"),
        ("0f000000 1000 0500 01000000 00000000", "offset 0: length 15 is below its header"),
        ("11000000 1000 0500 01000000 00000000", "offset 0: length 17, but 16 bytes are left"),
        ("ffffffff 1000 0500 01000000 00000000", "length 4294967295, but 16 bytes are left"),
    ],
)
def test_malformed(text: str, words: str) -> None:
    """What comes before the malformed message has been given out; the offset tells where."""
    with pytest.raises(DecodeError, match=words):
        list(messages.split(bytes.fromhex(text)))
    before: list[Message] = []
    data = messages.build(16, 0, 1, 2, b"good") + bytes.fromhex(text)
    with pytest.raises(DecodeError, match=words.replace("offset 0", "offset 20")):
        before.extend(messages.split(data))
    assert before == [Message(16, 0, 1, 2, b"good")]


def test_results_are_copies() -> None:
    buffer = bytearray(messages.build(16, 0, 1, 2, b"abcd"))
    found = list(messages.split(buffer))  # type: ignore[arg-type]
    buffer.clear()
    assert found == [Message(16, 0, 1, 2, b"abcd")]


# --- NLMSG_ERROR -----------------------------------------------------------------------------

BODY = bytes([3, 1, 0, 0]) + attrs.build([(1, b"1234"), (2, b"5")])
REQUEST = messages.build(0x1D, NLM_F_REQUEST | NLM_F_ACK, 7, 9, BODY)


def number(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder, signed=value < 0)


def error(errno: int, tlvs: list[tuple[int, attrs.Payload]], flags: int) -> tuple[bytes, int]:
    """What netlink_ack sends: with NETLINK_CAP_ACK (NLM_F_CAPPED) or for a plain ack the request's
    header alone, else all of it."""
    whole = errno != 0 and not flags & NLM_F_CAPPED
    payload = number(-errno) + (REQUEST if whole else REQUEST[: messages.HEADER])
    return payload + attrs.build(tlvs), flags | (NLM_F_ACK_TLVS if tlvs else 0)


SHAPES: list[tuple[str, list[tuple[int, attrs.Payload]], Ack]] = [
    ("no extended ack", [], Ack(22)),
    (
        "a missing attribute, no words",
        [(NLMSGERR_ATTR_MISS_TYPE, number(4)), (NLMSGERR_ATTR_MISS_NEST, number(20))],
        Ack(22, miss_type=4, miss_nest=20),
    ),
    (
        "a missing attribute at the top",
        [(NLMSGERR_ATTR_MISS_TYPE, number(1))],
        Ack(22, miss_type=1),
    ),
    (
        "words and an offset",
        [(NLMSGERR_ATTR_MSG, b"address not found\0"), (NLMSGERR_ATTR_OFFS, number(20))],
        Ack(22, "address not found", 20),
    ),
    (
        "a policy that was failed",
        [
            (NLMSGERR_ATTR_MSG, b"Attribute failed policy validation\0"),
            (NLMSGERR_ATTR_OFFS, number(24)),
            (NLMSGERR_ATTR_POLICY, [(1, number(3)), (2, number(255))]),
        ],
        Ack(
            22,
            "Attribute failed policy validation",
            24,
            policy=attrs.build([(1, number(3)), (2, number(255))]),
        ),
    ),
    ("words alone", [(NLMSGERR_ATTR_MSG, b"no\0")], Ack(22, "no")),
    ("a cookie", [(NLMSGERR_ATTR_COOKIE, b"c00kie")], Ack(22, cookie=b"c00kie")),
    ("something new", [(77, b"?")], Ack(22)),
]


@pytest.mark.parametrize("capped", [NLM_F_CAPPED, 0], ids=["CAP_ACK", "whole request"])
@pytest.mark.parametrize(("tlvs", "ack"), [row[1:] for row in SHAPES],
                         ids=[row[0] for row in SHAPES])  # fmt: skip
def test_error(tlvs: list[tuple[int, attrs.Payload]], ack: Ack, capped: int) -> None:
    assert messages.parse_error(*error(22, tlvs, capped)) == ack


def test_the_request_in_an_error_is_padded() -> None:
    """A request that ends in the middle of a word: the TLVs begin at the next."""
    odd = messages.build(0x1D, 5, 1, 2, b"abcde")
    payload = number(-22) + odd + bytes(3) + attrs.build([(NLMSGERR_ATTR_MSG, b"no\0")])
    assert messages.parse_error(payload, NLM_F_ACK_TLVS) == Ack(22, "no")


@pytest.mark.parametrize("flags", [NLM_F_CAPPED, 0])
def test_ack(flags: int) -> None:
    """A plain ack holds the header alone, also where the kernel does not say that it is capped."""
    assert messages.parse_error(*error(0, [], flags)) == Ack(0)
    warning: list[tuple[int, attrs.Payload]] = [(NLMSGERR_ATTR_MSG, b"mind the gap\0")]
    assert messages.parse_error(*error(0, warning, flags)) == Ack(0, "mind the gap")


def test_tlvs_are_read_only_where_the_flag_promises_them() -> None:
    payload, _flags = error(22, [(NLMSGERR_ATTR_MSG, b"no\0")], NLM_F_CAPPED)
    assert messages.parse_error(payload, NLM_F_CAPPED) == Ack(22)


@pytest.mark.parametrize("size", range(20))
def test_error_cut_short(size: int) -> None:
    payload, flags = error(22, [], 0)
    with pytest.raises(DecodeError, match=f"NLMSG_ERROR of {size} bytes instead of 20"):
        messages.parse_error(payload[:size], flags)


def test_error_without_the_request_that_it_promises() -> None:
    payload, _flags = error(22, [], NLM_F_CAPPED)
    with pytest.raises(DecodeError, match="extended ack at offset 40 of 20 bytes"):
        messages.parse_error(payload, NLM_F_ACK_TLVS)


def test_a_copied_header_with_an_impossible_length() -> None:
    """It is the request's, so ours; yet no length in it may lead out of the payload."""
    for length in (0, 15, 0xFFFFFFFF):
        payload = number(-22) + number(length)[:4] + REQUEST[4:16] if length < 16 else (
            number(-22) + b"\xff" * 4 + REQUEST[4:16]
        )  # fmt: skip
        if length < 16:
            assert messages.parse_error(payload, NLM_F_ACK_TLVS) == Ack(22)
        else:
            with pytest.raises(DecodeError, match="extended ack at offset"):
                messages.parse_error(payload, NLM_F_ACK_TLVS)


@pytest.mark.parametrize("value", [1, 22, 0x7FFFFFFF, -4096, -0x80000000])
def test_a_number_that_is_no_errno(value: int) -> None:
    payload = number(value) + REQUEST[: messages.HEADER]
    with pytest.raises(DecodeError, match=f"NLMSG_ERROR carries {value}, which is not"):
        messages.parse_error(payload, 0)


@pytest.mark.parametrize(
    ("tlvs", "words"),
    [
        ([(NLMSGERR_ATTR_OFFS, b"\0")], "NLMSGERR_ATTR_OFFS: 1 bytes instead of 4"),
        ([(NLMSGERR_ATTR_MISS_TYPE, bytes(8))], "NLMSGERR_ATTR_MISS_TYPE: 8 bytes instead of 4"),
        ([(NLMSGERR_ATTR_MISS_NEST, b"")], "NLMSGERR_ATTR_MISS_NEST: 0 bytes instead of 4"),
        ([(NLMSGERR_ATTR_MSG, b"a\0b\0")], "NLMSGERR_ATTR_MSG: a NUL inside"),
    ],
)
def test_malformed_tlvs(tlvs: list[tuple[int, attrs.Payload]], words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        messages.parse_error(*error(22, tlvs, NLM_F_CAPPED))
    with pytest.raises(DecodeError, match=words):
        messages.parse_done(number(-22) + attrs.build(tlvs), NLM_F_ACK_TLVS)


def test_a_tlv_that_leaves_the_message() -> None:
    payload, flags = error(22, [(NLMSGERR_ATTR_MSG, b"no\0\0")], NLM_F_CAPPED)
    with pytest.raises(DecodeError, match="offset 20: length 8, but 7 bytes are left"):
        messages.parse_error(payload[:-1], flags)


# --- NLMSG_DONE ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "flags", "ack"),
    [
        (b"", 0, Ack(0)),
        (number(0), 0, Ack(0)),
        (number(52), 0, Ack(0)),  # a dump that went well may return its length
        (number(-16), 0, Ack(16)),
        (number(-22) + attrs.build([(NLMSGERR_ATTR_MSG, b"no such token\0")]), NLM_F_ACK_TLVS,
         Ack(22, "no such token")),
        (number(-22) + attrs.build([(NLMSGERR_ATTR_MSG, b"x\0")]), 0, Ack(22)),
        (number(0) + attrs.build([(NLMSGERR_ATTR_MSG, b"fine\0")]), NLM_F_ACK_TLVS,
         Ack(0, "fine")),
    ],
)  # fmt: skip
def test_done(payload: bytes, flags: int, ack: Ack) -> None:
    assert messages.parse_done(payload, flags) == ack


@pytest.mark.parametrize("size", [1, 2, 3])
def test_done_cut_short(size: int) -> None:
    with pytest.raises(DecodeError, match=f"NLMSG_DONE of {size} bytes instead of 4"):
        messages.parse_done(bytes(size), 0)


@pytest.mark.parametrize("value", [-4096, -0x80000000])
def test_done_with_a_number_that_is_no_errno(value: int) -> None:
    with pytest.raises(DecodeError, match=f"NLMSG_DONE carries {value}"):
        messages.parse_done(number(value), 0)
