"""What each command of the control socket does, and what it answers.

Knows the service's parts; must not know sockets. Long answers are made part by part, each as soon
as the client has taken the one before: no answer holds the daemon up or lies in memory as a whole.
"""

from __future__ import annotations

import logging
import os
from array import array
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeAlias

from mptcpd import __version__
from mptcpd.cli import metrics, pm_type
from mptcpd.cli.control_explain import explain
from mptcpd.cli.control_protocol import VERSION, Refusal, Request, parse, refusal, reply
from mptcpd.cli.control_stream import Stream
from mptcpd.cli.reload import in_words
from mptcpd.cli.runtime import namespace
from mptcpd.core.connections import Connection, Subflow
from mptcpd.core.ids import NoFreeId
from mptcpd.core.path import path_of
from mptcpd.core.registry import HOOKS
from mptcpd.nl.errors import NetlinkError
from mptcpd.nl.rtnl import Address

if TYPE_CHECKING:
    from mptcpd.cli.control import Control
    from mptcpd.cli.control_server import Client
    from mptcpd.cli.reload import Reload
    from mptcpd.cli.service import Service

_LOG = logging.getLogger("mptcpd")
_PART = 32  # connections or interfaces in one line
_SHARE = 0.25  # of the time that reloads which clients ask for may take
# One value, or several parts of a list.
Answer: TypeAlias = "dict[str, Any] | Iterator[list[Any]]"


class Answers:
    """Takes lines, yields lines (``control_server.Answer``).

    requests  (command, outcome) -> how many; the outcome is "ok" or the kind of the refusal
    """

    def __init__(self, service: Service, reload: Reload, control: Control) -> None:
        self._service = service
        self._reload = reload
        self._control = control
        self._stream = Stream(service, control)
        self._reload_after = 0.0
        self.requests: dict[tuple[str, str], int] = {}

    def __call__(self, client: Client, line: bytes) -> Iterator[bytes]:
        ident, name = None, ""
        try:
            request = parse(line)
            ident, name = request.id, request.command
            answer = self._COMMANDS[name](self, request, client)
            if isinstance(answer, dict):
                yield reply(ident, answer)
            else:
                yield from _parts(ident, answer)
        except (Refusal, NetlinkError, OSError, ValueError, NoFreeId) as error:
            self._count(name, error.kind if isinstance(error, Refusal) else "refused")
            yield refusal(error, ident)
        except Exception:
            # A fault of ours is to be found in the log, and must not end the daemon.
            _LOG.exception("Control socket: %s failed", name)
            self._count(name, "internal")
            yield refusal(Refusal("internal", "this should not happen; see the log"), ident)
        else:
            self._count(name, "ok")

    def gone(self, client: Client) -> None:
        """A client has ended."""
        self._stream.remove(client)

    def _count(self, name: str, outcome: str) -> None:
        key = name or "none", outcome
        self.requests[key] = self.requests.get(key, 0) + 1

    # What there is

    def _status(self, request: Request, client: Client) -> Answer:
        service, reload = self._service, self._reload
        network = service.network.network
        found = pm_type.PathManagerType()
        return {
            "program": "mptcpd",
            "version": __version__,
            "protocol": VERSION,
            "pid": os.getpid(),
            "uptime": round(service.loop.time() - service.began, 3),
            "namespace": namespace(),
            "config": service.config.file or None,
            "log_level": _level_name(),
            "plugins": service.registry.names,
            "path_manager": {"setting": service.config.pm, "new_connections": found.name},
            "follows": service.watch.follows,
            "connections": len(service.table.by_token),
            "subflows": service.table.subflows(),
            "interfaces": len(network.interfaces),
            "addresses": sum(len(each.addresses) for each in network.interfaces.values()),
            "endpoints": len(service.endpoints.ownership.owned),
            "reloads": {"done": reload.done, "refused": reload.refused, "last": reload.last},
            "control": {"socket": self._control.where, "clients": self._clients()},
        }

    def _clients(self) -> int:
        return 0 if self._control.server is None else len(self._control.server.clients)

    def _connections(self, request: Request, client: Client) -> Answer:
        if "token" in request.arguments:
            return _connection(self._known(request))
        return self._all_connections()

    def _all_connections(self) -> Iterator[list[Any]]:
        by_token = self._service.table.by_token
        tokens = array("I", by_token)  # 300 KB for 75,000
        for start in range(0, len(tokens), _PART):
            known = (by_token.get(token) for token in tokens[start : start + _PART])
            yield [_connection(connection) for connection in known if connection is not None]

    def _interfaces(self, request: Request, client: Client) -> Answer:
        return self._all_interfaces()

    def _all_interfaces(self) -> Iterator[list[Any]]:
        network = self._service.network.network
        for link, verdict, addresses in network.explain():
            interface = network.interfaces.get(link.ifindex)
            yield [
                {
                    "ifindex": link.ifindex,
                    "name": link.name,
                    "used": verdict.used,
                    "why": verdict.why,
                    "flags": None if interface is None else list(interface.address_flags),
                    "addresses": [
                        {"address": _prefix(address), "used": each.used, "why": each.why}
                        for address, each in addresses
                    ],
                }
            ]

    def _endpoints(self, request: Request, client: Client) -> Answer:
        endpoints = self._service.endpoints
        limits = endpoints.limits()
        owned = endpoints.ownership.owned
        return {
            "limits": limits._asdict(),
            "endpoints": [
                {
                    "address": str(endpoint.address),
                    "id": endpoint.id,
                    "flags": list(endpoint.flags),
                    "ifindex": endpoint.ifindex,
                    "ours": endpoint.id in owned
                    and owned[endpoint.id].address == endpoint.address,
                }
                for endpoint in endpoints.endpoints()
            ],
        }

    def _plugins(self, request: Request, client: Client) -> Answer:
        service = self._service
        owned = service.owners.owned(service.table.by_token.values())
        hooks = (*HOOKS, *service.owners.HOOKS)
        return {
            "plugins": [
                {
                    "name": plugin.name,
                    "description": plugin.description,
                    "priority": plugin.priority,
                    "needs": plugin.needs,
                    "file": plugin.loaded_from[0],
                    "hooks": list(service.registry.overridden(plugin, hooks)),
                    "connections": owned.get(plugin.name, 0),
                }
                for plugin in service.registry.plugins
            ]
        }

    def _counters(self, request: Request, client: Client) -> Answer:
        found = metrics.families(self._service, self._reload, self._control)
        if request.arguments.get("format") == "openmetrics":
            return {"openmetrics": metrics.openmetrics(found)}
        return metrics.as_json(found)

    # What can be done

    def _do_reload(self, request: Request, client: Client) -> Answer:
        loop = self._service.loop
        began = loop.time()
        if began < self._reload_after:
            raise Refusal("too-many", "the last reload has only just been; try again in a moment")
        outcome = self._reload()
        ended = loop.time()
        self._reload_after = ended + (ended - began) / _SHARE
        if outcome.refused:
            raise Refusal("refused", outcome.refused)
        return {**outcome._asdict(), "text": in_words(outcome)}

    def _log(self, request: Request, client: Client) -> Answer:
        level = request.arguments.get("level")
        if level is not None:
            if self._service.config.log == "null":
                raise Refusal("refused", "log=null: nothing is logged at any level")
            _LOG.warning("Log level set to %s by process %d.", level, client.peer.pid)
            logging.getLogger().setLevel(level.upper())
            self._service.trace(level == "debug")
        return {"level": _level_name(), "destination": self._service.config.log}

    def _subscribe(self, request: Request, client: Client) -> Answer:
        # From now on: who has read the reply misses nothing. That is the next thing sent to it.
        return {"kinds": sorted(self._stream.add(client, request.arguments.get("kinds")))}

    def _explain(self, request: Request, client: Client) -> Answer:
        return explain(self._service, **request.arguments)

    def _announce(self, request: Request, client: Client) -> Answer:
        given = request.arguments
        bound = self._service.commands.announce(
            self._known(request),
            given["address"],
            given.get("local_id"),
            listen=given.get("listen", True),
        )
        return {"address": str(bound)}

    def _remove(self, request: Request, client: Client) -> Answer:
        self._service.commands.remove(self._known(request), request.arguments["local_id"])
        return {}

    def _create_subflow(self, request: Request, client: Client) -> Answer:
        given = {name: value for name, value in request.arguments.items() if name != "token"}
        self._service.commands.create_subflow(self._known(request), **given)
        return {}

    def _destroy_subflow(self, request: Request, client: Client) -> Answer:
        connection = self._known(request)
        self._service.commands.destroy_subflow(connection, _flow(connection, request))
        return {}

    def _set_backup(self, request: Request, client: Client) -> Answer:
        connection = self._known(request)
        flow = _flow(connection, request)
        self._service.commands.set_backup(connection, flow, request.arguments["backup"])
        return {}

    def _known(self, request: Request) -> Connection:
        token = request.arguments["token"]
        connection = self._service.table.by_token.get(token)
        if connection is not None:
            return connection
        if not self._service.watch.follows:
            raise Refusal("not-found", "no plugin follows connections")
        raise Refusal("not-found", f"there is no connection {token:08x}")

    _COMMANDS: dict[str, Callable[[Answers, Request, Client], Answer]] = {
        "status": _status,
        "connections": _connections,
        "interfaces": _interfaces,
        "endpoints": _endpoints,
        "plugins": _plugins,
        "counters": _counters,
        "reload": _do_reload,
        "log": _log,
        "subscribe": _subscribe,
        "explain": _explain,
        "announce": _announce,
        "remove": _remove,
        "create-subflow": _create_subflow,
        "destroy-subflow": _destroy_subflow,
        "set-backup": _set_backup,
    }


def _parts(ident: str | int | None, parts: Iterator[list[Any]]) -> Iterator[bytes]:
    """Lists as lines; the last one, which may be empty, without ``more``."""
    for part in parts:
        yield reply(ident, part, more=True)
    yield reply(ident, [])


def _connection(connection: Connection) -> dict[str, Any]:
    owner = connection.owner
    return {
        "token": f"{connection.token:08x}",
        "local": str(connection.local),
        "remote": str(connection.remote),
        "role": "server" if connection.server_side else "client",
        "established": connection.established,
        "deny_join_id0": connection.deny_join_id0,
        "plugin": None if owner is None else owner.plugin.name,
        "subflows": [
            {
                "local": str(flow.local),
                "remote": str(flow.remote),
                "local_id": flow.local_id,
                "remote_id": flow.remote_id,
                "backup": flow.backup,
                "ifindex": flow.ifindex,
            }
            for flow in connection.subflows.values()
        ],
        "announced": {str(i): str(address) for i, address in connection.announced.items()},
        "remote_addresses": {
            str(i): str(address) for i, address in connection.remote_addresses.items()
        },
    }


def _flow(connection: Connection, request: Request) -> Subflow:
    local, remote = request.arguments["local"], request.arguments["remote"]
    found = connection.find(path_of(local, remote))
    if found is None:
        raise Refusal("not-found", f"{connection.token:08x} has no subflow {local} to {remote}")
    return found


def _prefix(address: Address) -> str:
    return f"{ip_address(address.ip)}/{address.prefixlen}"


def _level_name() -> str:
    level = logging.getLogger().level
    return logging.getLevelName(level).lower() if level <= logging.ERROR else "nothing"
