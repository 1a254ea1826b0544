"""mptcpctl whose queue for events has 4 KB, which a few events overrun."""

from __future__ import annotations

import sys

from mptcpd.cli.ctl import main, monitor

if __name__ == "__main__":
    monitor._QUEUE = 4096
    sys.exit(main.main())
