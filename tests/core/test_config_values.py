"""Values of settings that no other test reads."""

from __future__ import annotations

import pytest

from mptcpd.core.config_values import BadValue, size


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
