"""Who has to go when the control socket is crowded, so that who comes to ask something is served.

Knows what clients have done so far and whose they are; must not know sockets or requests. A client
gives up nothing but its place: who is sent away may come back.

Two crowds are bounded apart. Who has not sent a whole request yet costs next to nothing, so there
may be many of them, and the oldest goes for the next. Who has sent one has a place among CLIENTS,
and makes room for another only for a reason of those below. Neither goes for the sake of somebody
less mighty: a member of ``control-group`` cannot keep root out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mptcpd.cli.control_peer import Peer
    from mptcpd.cli.control_server import Client

STALE = 1.0  # seconds without a request, or without taking what waits for it
# Of CLIENTS; less for the members of the group, or root could not subscribe any more.
SUBSCRIBERS, _OF_GROUP = 12, 8
_MANY = 200  # requests of one client, after which another may ask


def who_goes(clients: Iterable[Client], peer: Peer, now: float) -> tuple[Client, str] | None:
    """The client that makes room for one of ``peer``, and why; None: each has a right to stay."""
    mine = _may_replace(clients, peer)
    still = [client for client in mine if client.moved <= now - STALE]
    waiting = [client for client in still if client.out or client.more is not None]
    silent = [client for client in still if client not in waiting and not client.stream]
    lesser = [client for client in mine if _mighty(peer) and not _mighty(client.peer)]
    greedy = [client for client in mine if client.heard >= _MANY]
    for found, why in ((silent, "silent"), (waiting, "slow"), (lesser, "too-many")):
        if found:
            return min(found, key=lambda client: client.moved), why
    if greedy:
        return max(greedy, key=lambda client: client.heard), "too-many"
    return None


def in_turn(newcomers: Iterable[Client], peer: Peer) -> Sequence[Client]:
    """Those who have not asked anything yet, in the order in which they go for one of ``peer``.

    newcomers  the oldest first
    """
    return sorted(_may_replace(newcomers, peer), key=lambda client: _mighty(client.peer))


def may_subscribe(subscribers: int, peer: Peer) -> bool:
    """Whether there may be one more of those whose silence is no fault, so whom nothing moves."""
    return subscribers < (SUBSCRIBERS if _mighty(peer) else _OF_GROUP)


def _may_replace(clients: Iterable[Client], peer: Peer) -> list[Client]:
    return [client for client in clients if _mighty(peer) or not _mighty(client.peer)]


def _mighty(peer: Peer) -> bool:
    """Root, or the user that the daemon runs as."""
    return peer.uid in (0, os.geteuid())
