"""What an error says, and how it is told from another."""

from __future__ import annotations

import errno
import pickle

import pytest

from mptcpd.nl import errors
from mptcpd.nl.errors import KernelError, NetlinkError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            KernelError("MPTCP_PM_CMD_FLUSH_ADDRS", errno.EPERM),
            "MPTCP_PM_CMD_FLUSH_ADDRS: Operation not permitted (EPERM)",
        ),
        (
            KernelError("MPTCP_PM_CMD_SET_LIMITS", errno.EINVAL,
                        "limit greater than maximum (8)", "MPTCP_PM_ATTR_SUBFLOWS"),
            "MPTCP_PM_CMD_SET_LIMITS: limit greater than maximum (8): "
            "attribute MPTCP_PM_ATTR_SUBFLOWS: Invalid argument (EINVAL)",
        ),
        (
            KernelError("MPTCP_PM_CMD_REMOVE", errno.EINVAL, None, "MPTCP_PM_ATTR_TOKEN"),
            "MPTCP_PM_CMD_REMOVE: attribute MPTCP_PM_ATTR_TOKEN: Invalid argument (EINVAL)",
        ),
        (
            KernelError("MPTCP_PM_CMD_ADD_ADDR", errno.EINVAL,
                        "too many addresses or duplicate one: -34"),
            "MPTCP_PM_CMD_ADD_ADDR: too many addresses or duplicate one: -34: "
            "Invalid argument (EINVAL): because of Numerical result out of range",
        ),
        (
            KernelError("MPTCP_PM_CMD_ADD_ADDR", errno.ERANGE,
                        "too many addresses or duplicate one: -34"),
            "MPTCP_PM_CMD_ADD_ADDR: too many addresses or duplicate one: -34: "
            "Numerical result out of range (ERANGE)",
        ),
        (KernelError("X", 524), "X: Unknown error 524 (524)"),  # ENOTSUPP is the kernel's own
    ],
)  # fmt: skip
def test_text(error: KernelError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (None, errno.EINVAL),
        ("", errno.EINVAL),
        ("address not found", errno.EINVAL),
        ("too many addresses or duplicate one: -34", errno.ERANGE),
        ("too many addresses or duplicate one: -17", errno.EEXIST),
        ("create listen socket error: -99", errno.EADDRNOTAVAIL),
        ("connect error: -99 maybe", errno.EINVAL),
        ("odd: -", errno.EINVAL),
        ("odd: -x", errno.EINVAL),
        ("odd: -²", errno.EINVAL),
        ("odd: -" + "9" * 5000, errno.EINVAL),  # no errno; int() would refuse it
        ("17", errno.EINVAL),
    ],
)
def test_reason(words: str | None, reason: int) -> None:
    error = KernelError("X", errno.EINVAL, words)
    assert error.reason == reason
    assert str(error)


def test_a_kernel_error_survives_pickling() -> None:
    error = KernelError("COMMAND", 22, "words", "ATTRIBUTE")
    again = pickle.loads(pickle.dumps(error))
    assert (again.command, again.errno, again.words, again.attribute) == (
        "COMMAND", 22, "words", "ATTRIBUTE",
    )  # fmt: skip
    assert str(again) == str(error)


def test_family() -> None:
    """Who acts alike catches alike; nothing here is an OSError, so neither swallows the other."""
    for name in ("DecodeError", "KernelError", "Overrun", "Unavailable"):
        kind = getattr(errors, name)
        assert issubclass(kind, NetlinkError)
        assert not issubclass(kind, OSError)
        assert kind.__bases__ == (NetlinkError,)
