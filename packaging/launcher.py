#!/usr/bin/python3 -I
"""Starts the mptcpd that make install put beside it: in PREFIX/sbin or bin, from PREFIX/lib/mptcpd.

Make install writes the first line. Isolated (-I), so that neither the environment nor the current
folder nor a user's own packages decide what code runs with network privileges.
"""

from __future__ import annotations

import os
import sys

prefix = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(prefix, "lib", "mptcpd"))

from mptcpd.cli.daemon import main  # noqa: E402

sys.exit(main())
