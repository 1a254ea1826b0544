"""Where things are installed, and whose files are trusted there.

Knows    the layouts that a clone, ``make install`` and pip make.
Not      what is in the files.
"""

from __future__ import annotations

import os
import sys

SYSCONFDIR = "/etc"  # "make install SYSCONFDIR=..." rewrites this line

# Who started the program: the daemon may change to a user who is trusted with less.
_STARTER = os.geteuid()
# The package's directory; the module's file, not argv[0], which may be a link or a zip of scripts.
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def config_file() -> str:
    """The configuration file that is read unless --config names another. It may be missing."""
    return os.path.join(SYSCONFDIR, "mptcpd", "mptcpd.conf")


def plugin_dir(package: str = _PACKAGE, prefix: str = sys.prefix) -> str:
    """The directory of the bundled plugins: the first of these that holds addr_adv.py.

    plugins beside the package           a clone, an editable installation, make install
    PREFIX/lib/mptcpd/plugins            pip, with the package in PREFIX/lib/pythonX.Y/*-packages;
                                         not always sys.prefix: pip --user, Debian's /usr/local
    sys.prefix/lib/mptcpd/plugins        the rest; named in messages if none of them exists

    "plugins" alone would not do: next to a package in site-packages it may be somebody else's.
    """
    beside = os.path.join(os.path.dirname(package), "plugins")
    installed = os.path.normpath(os.path.join(package, "..", "..", "..", "mptcpd", "plugins"))
    rest = os.path.join(prefix, "lib", "mptcpd", "plugins")
    for directory in (beside, installed):
        if os.path.isfile(os.path.join(directory, "addr_adv.py")):
            return directory
    return rest


def owners() -> frozenset[int]:
    """User IDs whose files are trusted: root, who started the daemon, and the program's owner.

    The last one is for a clone that is started through sudo: whoever owns the code that runs can
    do all that its configuration and plugins could.
    """
    return frozenset({0, _STARTER, os.stat(os.path.join(_PACKAGE, "__init__.py")).st_uid})
