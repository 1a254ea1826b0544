"""The kernel's counters, from what /proc/net/netstat looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcpd.cli import counters

OTHERS = "TcpExt: SyncookiesSent MPFastcloseRx\nTcpExt: 1 2\n"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (f"{OTHERS}MPTcpExt: MPCapableSYNRX MPFastcloseRx Last\nMPTcpExt: 5 71 6\nIp: a\n", 71),
        (f"{OTHERS}MPTcpExt: MPCapableSYNRX Last\nMPTcpExt: 5 6\n", 0),
        (f"{OTHERS}MPTcpExt: MPCapableSYNRX MPFastcloseRx\nMPTcpExt: 5\n", 0),
        (f"{OTHERS}MPTcpExt: MPCapableSYNRX MPFastcloseRx\n", 0),
        (OTHERS, 0),
        ("", 0),
    ],
)
def test_aborted(tmp_path: Path, text: str, count: int) -> None:
    file = tmp_path / "netstat"
    file.write_text(text)
    assert counters.aborted(str(file)) == count


def test_without_the_file(tmp_path: Path) -> None:
    assert counters.aborted(str(tmp_path / "none")) == 0
