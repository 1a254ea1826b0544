"""The daemon's command line: one table of options, and what each of them means.

Knows    the options, and the words for what is wrong with their values.
Not      how a command line is cut into options (``argp``), nor any file.
Source   the C daemon's options, messages and exit codes; --config and --check-config are new.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mptcpd import __version__
from mptcpd.cli import argp
from mptcpd.cli.argp import Option, UsageError
from mptcpd.core import config
from mptcpd.core.config import BadValue, Settings

PROGRAM = "mptcpd"
PURPOSE = "Start the Multipath TCP daemon."
TAIL = "Supported Linux kernel: upstream"
BUGS = "<mptcp@lists.linux.dev>"

# In the order in which argp names candidates of an ambiguous abbreviation.
OPTIONS: tuple[Option, ...] = (
    Option("debug", "d", help="Log debug messages, too"),
    Option(
        "log",
        "l",
        "DEST",
        "Log to DEST: stderr (the default), syslog, journal or null (nowhere), e.g. --log=journal",
        words=config.LOG_DESTINATIONS,
    ),
    Option(
        "notify-flags",
        argument="FLAGS",
        help="Choose the addresses that plugins are told of: a list of existing, "
        "skip_link_local, skip_loopback and check_route, or nothing for no flag, e.g. "
        "--notify-flags=existing,skip_link_local,skip_loopback (the default)",
        words=config.NOTIFY_FLAGS,
        list=True,
    ),
    Option("plugin-dir", argument="DIR", help="Load plugins from DIR"),
    Option(
        "path-manager",
        argument="PLUGIN",
        help="Offer connections to PLUGIN first, whatever the priorities of the plugins say, e.g. "
        "--path-manager=sspi",
    ),
    Option(
        "addr-flags",
        argument="FLAGS",
        help="Set the flags of announced addresses: a list of signal, subflow, backup, fullmesh "
        "(not with signal) and laminar, or nothing for no flag, e.g. --addr-flags=subflow "
        "(the default)",
        words=config.ADDR_FLAGS,
        list=True,
    ),
    Option(
        "load-plugins",
        argument="PLUGINS",
        help="Load only these plugins, in this order, e.g. --load-plugins=addr_adv,sspi",
        list=True,
    ),
    Option(
        "runtime-dir",
        argument="DIR",
        help="Note in DIR which endpoints are ours, for the next start (the default is "
        "/run/mptcpd; none: do not)",
    ),
    Option("config", argument="FILE", help="Read the configuration from FILE"),
    Option("check-config", help="Check the options and the configuration, say so, and end"),
    Option(
        "daemonize",
        help="Go into the background; the command ends when mptcpd is ready, or with its exit "
        "status if it fails",
        late=True,
    ),
    Option("pidfile", argument="FILE", help="Write the process ID to FILE", late=True),
    Option(
        "no-sandbox",
        help="Do not deny system calls that a path manager has no need for, to debug a plugin",
        late=True,
    ),
)
TABLE = OPTIONS + argp.STANDARD


class Options(NamedTuple):
    """What the command line says.

    settings      what counts more than the configuration file
    config        the file of --config, or None for the default one
    check_config  only check the configuration
    show          text for stdout; if not None, print it and exit with 0, whatever else was said
    hang          seconds to sleep first, for a debugger (argp's hidden --HANG)
    daemonize     go into the background
    pidfile       where to write the process ID, or None
    sandbox       whether to have the kernel refuse unneeded system calls
    """

    settings: Settings = Settings()
    config: str | None = None
    check_config: bool = False
    show: str | None = None
    hang: int = 0
    daemonize: bool = False
    pidfile: str | None = None
    sandbox: bool = True


def _given(complaint: str) -> Callable[[str], str]:
    """A reader that takes any text but the empty one."""

    def read(text: str) -> str:
        if not text:
            raise BadValue(complaint)
        return text

    return read


def _log(text: str) -> str:
    if text not in config.LOG_DESTINATIONS:
        raise BadValue(f'Unknown logging option: "{text}"')
    return text


def _named(option: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    """``read``, whose complaints get the option's name; for what the C daemon lets pass."""

    def named(text: str) -> Any:
        try:
            return read(text)
        except BadValue as error:
            raise BadValue(f"--{option}: {error}") from None

    return named


def _load_plugins(text: str) -> tuple[str, ...]:
    # Exactly as in the C daemon, which has a blank less here than in the texts of other options.
    return config.plugin_names(_given("Empty load plugins commandline option.")(text))


# option -> reader of its argument; what it returns goes into Settings under the same name
_SETTINGS: Mapping[str, Callable[[str], Any]] = {
    "debug": lambda _: True,
    "log": _log,
    "plugin-dir": _given("Empty plugin directory command line option."),
    "path-manager": _given("Empty default path manager plugin command line option."),
    "load-plugins": _load_plugins,
    "runtime-dir": _given("Empty runtime directory command line option."),
    "addr-flags": _named("addr-flags", config.addr_flags),
    "notify-flags": _named("notify-flags", config.notify_flags),
}
# option -> field of Options, reader of its argument
_OURS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "config": ("config", _given("Empty configuration file command line option.")),
    "check-config": ("check_config", lambda _: True),
    "daemonize": ("daemonize", lambda _: True),
    "pidfile": ("pidfile", _given("Empty process ID file command line option.")),
    "no-sandbox": ("sandbox", lambda _: False),
    "HANG": ("hang", lambda text: _seconds(text)),
}


def _seconds(text: str) -> int:
    """The argument of --HANG: an hour if there is none, 0 if it is no number, as with atoi(3)."""
    if not text:
        return 3600
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0


def parse(argv: Sequence[str]) -> Options:
    """Read a command line, given without the program's name.

    Errors  UsageError, whatever the words; its str() goes to stderr, the exit status is 64.

    The last of several equal options counts. Everything is judged in the order in which it
    stands, and words that are no options at the end.
    """
    program = PROGRAM
    said: dict[str, Any] = {}
    options = Options()
    try:
        for option, argument in argp.scan(argv, TABLE):
            if option is None:
                raise argp.BadLine("Too many arguments")
            name = option.name
            if name in _SETTINGS:
                said[name.replace("-", "_")] = _SETTINGS[name](argument)
            elif name in _OURS:
                field, read = _OURS[name]
                options = options._replace(**{field: read(argument)})
            elif name == "program-name":
                # It gets into texts for stdout, which takes no undecodable bytes.
                program = argument.rpartition("/")[2].encode(errors="backslashreplace").decode()
            else:
                return options._replace(show=text(name, program))
    except (argp.BadLine, BadValue) as error:
        raise UsageError(program, str(error)) from None
    return options._replace(settings=Settings()._replace(**said))


def absolute(options: Options) -> Options:
    """The same with whole file names, for who goes on in another current directory."""
    found = {name: getattr(options, name) for name in ("config", "pidfile")}
    return options._replace(**{n: file and os.path.abspath(file) for n, file in found.items()})


def text(name: str, program: str = PROGRAM) -> str:
    """What the option ``name`` of the group "information" prints, without the last line feed."""
    if name == "version":
        return f"{PROGRAM} {__version__}"
    if name == "usage":
        return argp.usage_text(program, TABLE)
    return argp.help_text(program, TABLE, PURPOSE, TAIL, BUGS)
