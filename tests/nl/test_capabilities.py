"""Capabilities: the words for them, and what the kernel says, in a child that gives them up."""

from __future__ import annotations

import errno
import pathlib
import re

import pytest

from lab import Call
from mptcpd.nl import capabilities, libc
from mptcpd.nl.capabilities import NAMES, Sets, words

HEADER = pathlib.Path("/usr/include/linux/capability.h")


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (0, "none"),
        (1, "cap_chown"),
        (1 << 12, "cap_net_admin"),
        (1 << 10 | 1 << 12, "cap_net_bind_service,cap_net_admin"),
        (1 << 40, "cap_checkpoint_restore"),
        (1 << 63, "cap_63"),
    ],
)
def test_words(mask: int, text: str) -> None:
    assert words(mask) == text


def test_names() -> None:
    if not HEADER.exists():
        pytest.skip("no kernel headers (Debian: linux-libc-dev)")
    found = re.findall(r"^#define CAP_(\w+)\s+(\d+)$", HEADER.read_text(), re.M)
    ours = {name.upper(): number for number, name in enumerate(NAMES)}
    assert {name: int(number) for name, number in found}.items() <= ours.items()
    assert len(found) > 30


def status() -> dict[str, int]:
    """The sets as proc(5) shows them."""
    text = pathlib.Path("/proc/self/status").read_text()
    return {name: int(mask, 16) for name, mask in re.findall(r"^Cap(\w+):\t(\w+)$", text, re.M)}


def test_as_the_kernel_shows_them() -> None:
    seen = status()
    assert capabilities.get() == Sets(seen["Eff"], seen["Prm"], seen["Inh"])
    assert sum(1 << number for number in capabilities.bounding()) == seen["Bnd"]


def give_up() -> tuple[dict[str, int], int | None]:
    had = capabilities.get().permitted
    if had >> 8 & 1:
        for number in list(capabilities.bounding()):
            if number != 12:
                capabilities.drop_bounding(number)
    capabilities.clear_ambient()
    keep = had & 1 << 12
    capabilities.put(Sets(keep, keep))
    try:
        capabilities.put(Sets(keep | 1 << 21, keep | 1 << 21))
    except OSError as error:
        return status(), error.errno
    return status(), None


def test_given_up_for_good() -> None:
    had = capabilities.get().permitted
    seen, number = Call(give_up).result()
    keep = had & 1 << 12
    assert number == errno.EPERM
    assert (seen["Eff"], seen["Prm"], seen["Inh"], seen["Amb"]) == (keep, keep, 0, 0)
    if had >> 8 & 1:
        assert seen["Bnd"] & ~(1 << 12) == 0
    assert capabilities.get().permitted == had, "only the child's"


def test_what_changes_nothing_is_allowed_to_everybody() -> None:
    before = status()
    capabilities.put(capabilities.get())
    capabilities.keep_over_setuid(False)
    capabilities.clear_ambient()  # nobody gave us any
    assert status() == before


def test_refusals_carry_the_kernels_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError) as caught:
        capabilities.drop_bounding(64)
    assert caught.value.errno in (errno.EINVAL, errno.EPERM)
    monkeypatch.setattr(capabilities, "_VERSION", 1)
    for refused in (capabilities.get, lambda: capabilities.put(Sets(0, 0))):
        with pytest.raises(OSError) as caught:
            refused()
        assert caught.value.errno == errno.EINVAL


def test_a_kernel_with_as_many_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libc, "prctl", lambda *_arguments: 1)
    assert list(capabilities.bounding()) == list(range(64))


def test_a_question_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: int) -> int:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(libc, "prctl", refuse)
    with pytest.raises(PermissionError):
        list(capabilities.bounding())
