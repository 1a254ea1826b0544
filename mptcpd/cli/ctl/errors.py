"""What ends a command early, and in which words: those of iproute2.

Knows sentences and exit statuses; must not know commands.
"""

from __future__ import annotations

USAGE = 255  # grammar, unknown namespace, missing rights
REFUSED = 2  # the kernel said no
NO_ADDRESS = 1  # a word that is no address
NO_DAEMON = 3  # nobody answers at the daemon's socket


class Failure(Exception):
    """Ends the command. ``str()`` is the whole text for stderr, ``status`` the exit status."""

    def __init__(self, text: str, status: int = USAGE) -> None:
        super().__init__(text)
        self.status = status


def wrong(text: str, why: str) -> Failure:
    """``text``, as it was typed, cannot stand there."""
    return Failure(f'Error: argument "{text}" is wrong: {why}')


unknown_word = wrong


def required(name: str) -> Failure:
    return Failure(f'Error: argument "{name}" is required')


def unknown_command(text: str) -> Failure:
    return Failure(f'Command "{text}" is unknown, try "mptcpctl help".')


def no_address(text: str) -> Failure:
    return Failure(f'Error: any valid address is expected rather than "{text}".', NO_ADDRESS)
