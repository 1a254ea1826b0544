"""The daemon with a receive buffer of 8 KB, which a handful of notifications overruns."""

from __future__ import annotations

import sys

from mptcpd.cli import daemon

if __name__ == "__main__":
    daemon.Parts.route_buffer = 8192
    sys.exit(daemon.main())
