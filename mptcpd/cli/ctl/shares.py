"""How the traffic of a connection was divided among its subflows.

Knows what counts as traffic; must not know how shares are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from mptcpd.cli.ctl.quantity import percentages
from mptcpd.nl.info import TcpInfo


def sent(info: TcpInfo) -> int | None:
    """Payload that has left for good: bytes_acked counts once what bytes_sent counts each time."""
    return info.bytes_sent if info.bytes_acked is None else info.bytes_acked


def shares(infos: Sequence[TcpInfo]) -> list[int | None]:
    """The percent that each subflow carried of what these carried, both ways, since they began.

    Together 100; None for all while there was no traffic. Of subflows that are gone nothing is left
    to count.
    """
    return percentages([(sent(info) or 0) + (info.bytes_received or 0) for info in infos])
