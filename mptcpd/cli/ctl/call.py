"""What a command is given: the words said, the options, and where to print.

Knows nothing but the shape of it.
"""

from __future__ import annotations

from typing import NamedTuple

from mptcpd.cli.ctl.grammar import Args
from mptcpd.cli.ctl.output import Output, Settings


class Call(NamedTuple):
    args: Args
    settings: Settings
    out: Output
