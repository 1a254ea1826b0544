"""What a running daemon tells of itself, and what it can be told: over its control socket.

Knows how its answers look as text; must not know the socket (``control_client``) nor the protocol,
which is described in docs/control.md. As JSON, answers are printed as they came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mptcpd.cli.control_client import ControlClient, NoDaemon, Refused
from mptcpd.cli.ctl import quantity
from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.errors import NO_DAEMON, REFUSED, Failure, required
from mptcpd.cli.ctl.output import Output, dump

SOCKET = "/run/mptcpd/control.sock"
_INDENT = "    "


@contextmanager
def _asking(call: Call) -> Iterator[ControlClient]:
    """The daemon. Errors: Failure, if there is none or it refuses."""
    try:
        with ControlClient(call.settings.socket or SOCKET) as client:
            yield client
    except NoDaemon as error:
        raise Failure(f"Error: {error}.", NO_DAEMON) from None
    except Refused as error:
        text = str(error)
        raise Failure(f"Error: {text}{'' if text.endswith('.') else '.'}", REFUSED) from None


def _answer(call: Call, command: str, show: Callable[[Output, Any], object], **more: object) -> int:
    """Ask, and print the answer: as it came, or by ``show``."""
    with _asking(call) as client:
        said = client.ask(command, **more)
    if call.settings.json:
        call.out.json(said)
    else:
        show(call.out, said)
    return 0


def status(call: Call) -> int:
    return _answer(call, "status", _status)


def _status(out: Output, said: dict[str, Any]) -> None:
    manager, reloads, control = said["path_manager"], said["reloads"], said["control"]
    out.line(
        f"{said['program']} {said['version']}, process {said['pid']}, "
        f"for {quantity.duration(said['uptime'])}"
    )
    out.line(f"configuration: {said['config'] or 'none'}")
    out.line(f"new connections get: {manager['new_connections']} (pm={manager['setting']})")
    out.line(f"plugins: {', '.join(said['plugins'])}")
    if said["follows"]:
        out.line(f"connections: {said['connections']}, subflows: {said['subflows']}")
    else:
        out.line("connections: no plugin follows them")
    out.line(
        f"interfaces: {said['interfaces']}, addresses: {said['addresses']}, "
        f"endpoints of its own: {said['endpoints']}"
    )
    last = f"; the last: {reloads['last']}" if reloads["last"] else ""
    out.line(f"reloads: {reloads['done']}, refused: {reloads['refused']}{last}")
    out.line(f"log level: {said['log_level']}")
    out.line(f"clients at {control['socket']}: {control['clients']}")


def connections(call: Call) -> int:
    """Those that the daemon follows, as they come: they may be many."""
    token: int | None = call.args.get("token")
    wanted = {} if token is None else {"token": f"{token:08x}"}
    between = ""
    with _asking(call) as client:
        for part in client.parts("connections", **wanted):
            for one in part if isinstance(part, list) else [part]:
                if call.settings.json:
                    call.out.write((between or "[") + dump(one, call.settings.pretty))
                    between = ","
                else:
                    _connection(call.out, one)
            call.out.flush()
        if call.settings.json:
            call.out.write("]\n" if between else "[]\n")
        elif token is None and not client.ask("status")["follows"]:
            raise Failure("No plugin follows connections; mptcpctl connection lists them.", 0)
    return 0


def _connection(out: Output, one: dict[str, Any]) -> None:
    parts = [one["token"], one["role"], f"{one['local']} -> {one['remote']}"]
    parts += ["established" if one["established"] else "created"]
    parts += [f"plugin {one['plugin']}" if one["plugin"] else "no plugin"]
    lines = ["  ".join(parts)]
    for flow in one["subflows"]:
        ids = f"ids {flow['local_id']} {flow['remote_id']}"
        more = ["backup"] * flow["backup"]
        more += [f"ifindex {flow['ifindex']}"] if flow["ifindex"] else []
        lines.append("  ".join([f"{_INDENT}{flow['local']} -> {flow['remote']}", ids, *more]))
    for what, key in (("announced", "announced"), ("the peer's", "remote_addresses")):
        if one[key]:
            listed = ", ".join(f"{address} id {i}" for i, address in one[key].items())
            lines.append(f"{_INDENT}{what}: {listed}")
    out.write(("\\" if out.settings.oneline else "\n").join(lines) + "\n")


def interfaces(call: Call) -> int:
    """Interfaces and addresses, and why each is used or not."""
    return _answer(call, "interfaces", _interfaces)


def _interfaces(out: Output, said: list[dict[str, Any]]) -> None:
    for one in said:
        flags = f" (flags {','.join(one['flags']) or 'none'})" if one["flags"] is not None else ""
        lines = [f"{one['name']}: {_used(one)}{flags}"]
        lines += [f"{_INDENT}{each['address']}: {_used(each)}" for each in one["addresses"]]
        out.write(("\\" if out.settings.oneline else "\n").join(lines) + "\n")


def _used(one: dict[str, Any]) -> str:
    return f"{'used' if one['used'] else 'not used'}: {one['why']}"


def endpoints(call: Call) -> int:
    """The endpoints of the kernel's path manager, and which are the daemon's own."""
    return _answer(call, "endpoints", _endpoints)


def _endpoints(out: Output, said: dict[str, Any]) -> None:
    for one in said["endpoints"]:
        parts = [one["address"], f"id {one['id']}", *one["flags"]]
        parts += [f"ifindex {one['ifindex']}"] if one["ifindex"] else []
        out.line(" ".join([*parts, "its own" if one["ours"] else "somebody else's"]))
    out.line("limits: " + " ".join(f"{name} {count}" for name, count in said["limits"].items()))


def plugins(call: Call) -> int:
    return _answer(call, "plugins", _plugins)


def _plugins(out: Output, said: dict[str, Any]) -> None:
    for one in said["plugins"]:
        needs = f", for the path manager {one['needs']}" if one["needs"] else ""
        lines = [
            f"{one['name']}: {one['description']}",
            f"{_INDENT}priority {one['priority']}{needs}, connections {one['connections']}",
            f"{_INDENT}{one['file']}",
            f"{_INDENT}hooks: {', '.join(one['hooks'])}",
        ]
        out.write(("\\" if out.settings.oneline else "\n").join(lines) + "\n")


def counters(call: Call) -> int:
    """All counters, or the text that a scraper takes."""
    if call.args.get("openmetrics"):
        with _asking(call) as client:
            call.out.write(client.ask("counters", format="openmetrics")["openmetrics"])
        return 0
    return _answer(call, "counters", _counters)


def _counters(out: Output, said: dict[str, Any]) -> None:
    for name, value in said.items():
        for one in value if isinstance(value, list) else [{"value": value}]:
            labels = " ".join(f"{key} {text}" for key, text in one.items() if key != "value")
            out.line(f"{name} {labels}{' ' if labels else ''}{one['value']}")


def events(call: Call) -> int:
    """What happens, until SIGINT or SIGTERM, or until the daemon ends."""
    import json
    import os
    import time

    from mptcpd.cli.ctl.aside import aside
    from mptcpd.cli.ctl.ending import Ending

    wanted: list[str] | None = call.args.get("kinds")
    with Ending() as ending, _asking(call) as client:
        client.ask("subscribe", **({} if wanted is None else {"kinds": wanted}))
        fd = client.fileno()
        ending.watch(fd)
        rest = client.take()
        while True:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if call.settings.json:
                    call.out.write(line.decode() + "\n")
                    continue
                said = json.loads(line)
                if said["stream"] == "lost":
                    aside(f"{said['count']} lost: too many, or read too slowly")
                else:
                    call.out.line(_event(said, time.localtime(said["time"])))
            call.out.flush()
            ready = ending.wait()
            if ending.came:
                return 0
            if ready:
                data = os.read(fd, 1 << 16)
                if not data:
                    raise NoDaemon("the daemon has hung up")
                rest += data


def _event(said: dict[str, Any], when: Any) -> str:
    import time

    fields = {k: v for k, v in said.items() if k not in ("stream", "time", "event")}
    text = " ".join(f"{key} {_plain(value)}" for key, value in fields.items())
    stamp = time.strftime("%H:%M:%S", when) + f".{int(said['time'] % 1 * 1000):03}"
    return f"{stamp} {said['stream']}: {said['event']} {text}".rstrip()


def _plain(value: object) -> str:
    """A value without what a terminal would act on: what is logged may be anybody's words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value).replace("\n", " ")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def reload(call: Call) -> int:
    """Have it read its configuration and plugins again."""
    return _answer(call, "reload", _reload)


def _reload(out: Output, said: dict[str, Any]) -> None:
    for note in said["notes"]:
        out.line(f"Note: {note}")
    out.line(said["text"])


def log(call: Call) -> int:
    """Tell or set what it logs."""
    level = call.args.get("level")
    more = {} if level is None else {"level": level}
    return _answer(
        call, "log", lambda out, said: out.line(f"{said['level']} to {said['destination']}"), **more
    )


def explain(call: Call) -> int:
    """What would become of a connection."""
    roles, ends = call.args.get("role", []), call.args.get("ends", [])
    if len(roles) != 1:
        raise required("client | server")
    if len(ends) != 2:
        raise required("LOCAL REMOTE")
    return _answer(call, "explain", _explain, role=roles[0], local=ends[0], remote=ends[1])


def _explain(out: Output, said: dict[str, Any]) -> None:
    where = f"on {said['interface']}" if said["interface"] else "on no interface that is used"
    out.line(f"The local address is {where}. New connections get: {said['path_manager']}.")
    for one in said["plugins"]:
        out.line(f"{_INDENT}{one['plugin']}: {'takes it' if one['takes'] else 'no'}: {one['text']}")
    out.line(said["text"])
