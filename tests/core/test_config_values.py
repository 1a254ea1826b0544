"""Values of settings that no other test reads."""

from __future__ import annotations

import pytest

from mptcpd.core.config_values import BadValue, Section, duration, size


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4096", 4096), ("8192", 8192), ("8K", 8192), ("512K", 512 << 10), ("64M", 64 << 20),
        ("1024M", 1 << 30), ("1073741824", 1 << 30), ("0004096", 4096),
    ],
)  # fmt: skip
def test_size(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "K", "M", "4095", "3K", "0", "-8192", "+8192", "8192B", "8 K", "8k", "1G", "1.5M",
        "1025M", "1073741825", "99999999999", "9" * 5000, "\u0668K", "0x2000", "KM", "8KM",
    ],
)  # fmt: skip
def test_no_size(text: str) -> None:
    with pytest.raises(BadValue, match="is no size in bytes; allowed: 8192, 512K, 16M"):
        size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0.0), ("200ms", 0.2), ("1.5s", 1.5), ("3600s", 3600.0)]
)
def test_duration(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "1", "ms", "s", "-1s", "1.5.5s", "3601s", "1h", "1e3s", "\u0661s", "nan"]
)
def test_no_duration(text: str) -> None:
    with pytest.raises(BadValue, match="is no duration; allowed: 200ms, 1.5s, 0"):
        duration(text)


def test_a_section_can_be_seen_in_a_debugger() -> None:
    assert repr(Section("a", "f", {"k": ("v", 3)})) == "Section('a', 'f', {'k': ('v', 3)})"
