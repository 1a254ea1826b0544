"""The table of all objects, commands and words, in order of precedence; no code that acts on it.

``grammar`` reads command lines by it, ``help_text`` and ``completion`` tell of it. How to add an
entry is said in ``main``.
"""

from __future__ import annotations

from mptcpd.cli.ctl.grammar import COMMAND, Command, Object, Word

# The words of all four endpoint commands, as iproute2 knows them: each command takes them all, and
# shows those that are of use.
_BOTH = "flags mustn't have both signal and fullmesh"
_ONLY = "invalid flags, backup and fullmesh only"


def _flag(name: str, **more: object) -> Word:
    return Word(name, exact=True, group="FLAG", many=True, **more)  # type: ignore[arg-type]


def _endpoint(*, show: str = "", require: str = "", add: bool = False, change: bool = False,
) -> tuple[Word, ...]:  # fmt: skip
    """The words: those in ``show`` and ``require`` are told of, the latter without brackets."""

    def word(name: str, value: str, kind: str, key: str = "") -> Word:
        at = name or value
        shown = at in show.split() or at in require.split()
        return Word(name, value, kind, key=key, required=at in require.split(), shown=shown)

    refused = _ONLY if change else ""
    address = word("", "ADDRESS", "address")._replace(last=True)
    numbers = (word("dev", "NAME", "interface"), word("id", "ID", "id"), word("port", "NR", "port"))
    return (
        *((address, *numbers) if add else (numbers[1], address, numbers[0], numbers[2])),
        _flag("signal", refused=refused, shown=add, **_bar("fullmesh", add)),
        _flag("subflow", refused=refused, shown=add),
        _flag("laminar", refused=refused, shown=add),
        _flag("backup", shown=add or change, required=change),
        _flag("nobackup", shown=change),
        _flag("fullmesh", shown=add or change, **_bar("signal", add)),
        _flag("nofullmesh", shown=change),
        _flag("implicit", refused=refused, shown=False),  # the kernel's own; it says so
    )


def _bar(other: str, add: bool) -> dict[str, object]:
    return {"bars": (other,), "why": _BOTH} if add else {}


_LIMITS = (
    Word("subflows", "NR", "u32", wrong="invalid subflows\n"),
    Word("add_addr_accepted", "NR", "u32", wrong="invalid add_addr_accepted\n"),
)

# The words of the commands for one connection.
_TOKEN = Word("token", "TOKEN", "token", required=True)
_ID = Word("id", "ID", "id")
_PORT = Word("port", "NR", "port")
_DEV = Word("dev", "NAME", "interface")
_BACKUP = Word("backup", exact=True)
_EITHER = Word("backup", exact=True, group="FLAG", required=True)


def _ip(name: str, *within: Word, required: bool = True) -> Word:
    return Word(name, "ADDRESS", "address", required=required, within=within)


def _must(word: Word) -> Word:
    return word._replace(required=True)


# Which connections are meant.
_FILTER = (
    Word("token", "TOKEN", "token"),
    Word("local", "PREFIX[:PORT]", "prefix"),
    Word("remote", "PREFIX[:PORT]", "prefix"),
    Word("dev", "NAME", "interface"),
    Word("state", "STATE", "state"),
    Word("pm", "kernel | userspace", "pm"),
)

OBJECTS: tuple[Object, ...] = (
    Object(
        "endpoint",
        "addresses that the kernel's own path manager uses",
        (
            Command("add", "endpoint:add",
                    _endpoint(require="ADDRESS", show="dev id port", add=True),
                    help="add an endpoint"),
            Command("change", "endpoint:change",
                    _endpoint(show="id ADDRESS port", change=True),
                    help="replace the flags backup and fullmesh of an endpoint"),
            Command("delete", "endpoint:delete", _endpoint(require="id", show="ADDRESS"),
                    help="delete an endpoint; id 0, with the address, closes initial subflows"),
            Command("show", "endpoint:show", _endpoint(show="id"), help="list endpoints"),
            Command("flush", "endpoint:flush", loose=True, help="delete all endpoints"),
        ),
        default="show",
    ),
    Object(
        "limits",
        "limits of the kernel's own path manager",
        (
            Command("set", "endpoint:set_limits", _LIMITS, unknown="unknown limit",
                    help="change the limits that are given"),
            Command("show", "endpoint:show_limits",
                    tuple(word._replace(shown=False) for word in _LIMITS),
                    unknown="unknown limit", help="print the limits"),
        ),
        default="show",
    ),
    Object(
        "monitor",
        "events of connections, subflows and listeners, as they happen",
        (
            Command("", "monitor:run",
                    (Word("token", "TOKEN", "token"), Word("event", "NAME,...", "events")),
                    unknown=COMMAND),
        ),
    ),
    Object(
        "announce",
        "tell the peer of an address (ADD_ADDR)",
        (
            Command("", "steer:announce",
                    (_TOKEN, _ip(""), _must(_ID), _PORT, _DEV, Word("listen")),
                    help="with listen: hold a listening socket there, until interrupted"),
        ),
    ),
    Object(
        "remove",
        "tell the peer that an address is gone (RM_ADDR)",
        (Command("", "steer:remove", (_TOKEN, _must(_ID))),),
    ),
    Object(
        "subflow",
        "subflows of one connection",
        (
            Command("create", "steer:create",
                    (_TOKEN, _ip("local", _ID), _DEV, _BACKUP, _ip("remote", _must(_PORT), _ID),
                     Word("--wait", "SECONDS", "seconds", optional=True)),
                    help="start one; --wait prints it once established, or why it is not"),
            Command("destroy", "steer:destroy",
                    (_TOKEN, _ip("local", _must(_PORT)), _ip("remote", _must(_PORT))),
                    help="close one"),
            Command("priority", "steer:priority",
                    (_TOKEN, _ip("local", _PORT, required=False),
                     _ip("remote", _PORT, required=False),
                     _EITHER, _EITHER._replace(name="nobackup")),
                    help="make one a backup, or no backup (MP_PRIO)"),
        ),
    ),
    Object(
        "address",
        "addresses of one connection",
        (Command("show", "steer:show", (_TOKEN, _ID), help="list them (Linux 6.9)"),),
    ),
    Object(
        "listen",
        "hold an MPTCP listening socket until interrupted, and print its port",
        (Command("", "holding:listen", (_ip(""), _PORT, _DEV)),),
    ),
    Object(
        "pm",
        "the path manager of this network namespace",
        (
            Command("show", "path_manager:show",
                    help="which one new connections get, who is subscribed, limits, endpoints"),
            Command("set", "path_manager:choose",
                    (Word("", "kernel | userspace", "pm", key="pm", required=True),),
                    help="choose the one that new connections get"),
        ),
        default="show",
    ),
    Object(
        "connection",
        "MPTCP connections and their subflows, as the kernel has them",
        (
            Command("show", "connection:show", _FILTER, help="list connections and their subflows"),
            Command("count", "connection:count", _FILTER, help="how many there are"),
        ),
        default="show",
        bare=True,
    ),
    Object(
        "top",
        "a live view of connections, on a terminal or as frames of text",
        (
            Command("", "top:run", (
                Word("-b", key="batch"),
                Word("-d", "SECONDS", "seconds", key="interval"),
                Word("-n", "COUNT", "count", key="count"),
                Word("-s", "rate | rtt | retrans | token", "sort", key="sort"),
                *_FILTER,
            ), help="watch connections; -b writes frames of text"),
        ),
    ),
    Object(
        "record",
        "one picture of what connections do over a time",
        (
            Command("", "record:run", (
                Word("", "FILE", "file", required=True),
                Word("-d", "SECONDS", "seconds", key="seconds"),
                Word("-i", "SECONDS", "seconds", key="interval"),
                *_FILTER,
            ), help="watch, then write an SVG picture: for -d seconds, else until interrupted"),
        ),
    ),
    Object("status", "a running daemon: what it does, and since when",
           (Command("", "daemon:status"),)),
    Object("connections", "the connections that its plugins follow, and whose each is",
           (Command("", "daemon:connections", (Word("token", "TOKEN", "token"),)),)),
    Object("interfaces", "interfaces and addresses, and why it uses each or not",
           (Command("", "daemon:interfaces"),)),
    Object("endpoints", "endpoints of the kernel's path manager, and which are its own",
           (Command("", "daemon:endpoints"),)),
    Object("plugins", "its plugins, in the order in which they are asked",
           (Command("", "daemon:plugins"),)),
    Object("counters", "what it has counted",
           (Command("", "daemon:counters", (Word("--openmetrics"),),
                    help="--openmetrics: as a scraper takes it"),)),
    Object("events", "what happens to it, as it happens",
           (Command("", "daemon:events", (Word("", "KIND,...", "kinds", key="kinds"),),
                    help="kinds: connections, network, commands, log"),)),
    Object("reload", "have it read its configuration and plugins again",
           (Command("", "daemon:reload"),)),
    Object("log", "tell or set what it logs",
           (Command("", "daemon:log", (Word("", "LEVEL", "level"),),
                    help="level: debug, info, warning or error"),)),
    Object(
        "explain",
        "what would become of a connection, and why",
        (
            Command("", "daemon:explain",
                    (Word("client", exact=True, group="role", required=True),
                     Word("server", exact=True, group="role", required=True),
                     Word("", "LOCAL REMOTE", "text", key="ends", required=True, many=True)),
                    help="addresses as 10.0.1.2, 10.0.1.2:443 or [2001:db8::1]:443"),
        ),
    ),
    Object(
        "debug",
        "print or write what a bug report needs to tell",
        (Command("", "debug:run", (Word("--anonymous"), Word("", "FILE", "file")),
                 help="--anonymous: addresses become names that tell only which are the same"),),
    ),
    Object(
        "completion",
        "print a script that completes command lines of mptcpctl",
        (Command("", "completion:run", (Word("", "bash | zsh", "shell", key="shell",
                                             required=True),)),),
    ),
)  # fmt: skip

__all__ = ["COMMAND", "OBJECTS"]
