"""The daemon with a receive buffer of 8 KB, which a handful of notifications overruns."""

from __future__ import annotations

import sys

from mptcpd.cli import daemon, service

if __name__ == "__main__":
    service.Kernel.route_buffer = 8192
    sys.exit(daemon.main())
