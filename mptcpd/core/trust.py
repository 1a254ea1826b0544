"""Whose files are trusted: the one rule for configuration, plugin directory and plugins.

Knows    what a stat result says of kind, mode and owner.
Not      files: the caller opens one and passes the fstat of the descriptor that it goes on to
         read, so that nobody can put another file under the name in between.
Source   the C daemon's check (regular file or directory, not S_IWOTH), and the owner beside it.

Group and parent directories are not looked at, as in the C daemon: whoever gave a group the right
to write meant it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection


class Untrusted(Exception):
    """A file or directory that is not used, with the reason; the text names it."""


def trusted(
    status: os.stat_result, name: str, owners: Collection[int], *, directory: bool = False
) -> None:
    """Return if ``status`` is that of a file (or directory) nobody else could have put there.

    name       what to call it in the message
    owners     user IDs whose files are trusted: root, the daemon's own, the program's owner
    directory  whether it should be a directory, else a regular file
    Errors     Untrusted
    """
    kind, is_kind = ("directory", stat.S_ISDIR) if directory else ("file", stat.S_ISREG)
    if not is_kind(status.st_mode) or status.st_mode & stat.S_IWOTH:
        raise Untrusted(f'"{name}" should be a {kind} that is not world writable.')
    if status.st_uid not in owners:
        raise Untrusted(
            f'"{name}" should belong to root or to the user that runs mptcpd, '
            f"not to user {status.st_uid}."
        )
