"""What was counted, as numbers for machines: OpenMetrics, or JSON.

Knows names, units and meanings of the numbers, and where each is counted; must not know who asks.
FAMILIES is the one table of them: docs/control.md is held to it by a test. Nothing is counted here,
so nothing here costs anything until somebody asks.

Source  OpenMetrics 1.0; the Prometheus text format 0.0.4 for files (``classic``), which is what
        node_exporter reads there.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mptcpd import __version__
from mptcpd.cli.control_words import event_name
from mptcpd.core.loop import Rounds
from mptcpd.nl.mptcp_event import EVENTS

if TYPE_CHECKING:
    from mptcpd.cli.control import Control
    from mptcpd.cli.reload import Reload
    from mptcpd.cli.service import Service

Labels: TypeAlias = "tuple[tuple[str, str], ...]"
Number: TypeAlias = "int | float"


class Sources(NamedTuple):
    """Where the numbers are."""

    service: Service
    reload: Reload
    control: Control


class Family(NamedTuple):
    """One metric: name without the suffix of its kind, kind, unit, meaning, and its values."""

    name: str
    kind: str
    unit: str
    about: str
    values: Callable[[Sources], Mapping[Labels, Number]]


def _events(found: Sources) -> Mapping[Labels, Number]:
    counts = dict.fromkeys(EVENTS, 0) | dict(found.service.watch.counts)
    return {(("event", event_name(kind)),): count for kind, count in counts.items()}


def _sources(mptcp: str, route: str) -> Callable[[Sources], Mapping[Labels, Number]]:
    """The same number of both kinds of notifications."""

    def values(found: Sources) -> Mapping[Labels, Number]:
        service = found.service
        return {
            (("source", "mptcp"),): getattr(service.watch, mptcp),
            (("source", "network"),): getattr(service.network, route),
        }

    return values


def _foreign(found: Sources) -> Mapping[Labels, Number]:
    return {
        (("source", "mptcp"),): found.service.watch.foreign,
        (("source", "others"),): found.service.kernel.foreign,
    }


def _resynced(found: Sources) -> Mapping[Labels, Number]:
    return {(("what", name),): count for name, count in found.service.watch.found._asdict().items()}


def _commands(found: Sources) -> Mapping[Labels, Number]:
    sent = found.service.kernel.counts.sent
    return {(("command", name),): count for name, count in sent.items()}


def _command_errors(found: Sources) -> Mapping[Labels, Number]:
    return {
        (("command", name), ("errno", errno.errorcode.get(number, str(number)) if number else "")):
        count
        for (name, number), count in found.service.kernel.counts.failed.items()
    }  # fmt: skip


def _started(found: Sources) -> Mapping[Labels, Number]:
    return {(("kind", kind),): count for kind, count in found.service.commands.started.items()}


def _hooks(found: Sources) -> Mapping[Labels, Number]:
    failed = found.service.registry.failed_hooks
    return {(("plugin", plugin), ("hook", hook)): n for (plugin, hook), n in failed.items()}


def _reloads(found: Sources) -> Mapping[Labels, Number]:
    reload = found.reload
    return {(("outcome", "done"),): reload.done, (("outcome", "refused"),): reload.refused}


def _requests(found: Sources) -> Mapping[Labels, Number]:
    answers = found.control.answers
    known = {} if answers is None else answers.requests
    return {(("command", name), ("outcome", outcome)): n for (name, outcome), n in known.items()}


def _turned_away(found: Sources) -> Mapping[Labels, Number]:
    server = found.control.server
    return {(("why", why),): n for why, n in ({} if server is None else server.refused).items()}


def _one(value: Callable[[Sources], Number]) -> Callable[[Sources], Mapping[Labels, Number]]:
    return lambda found: {(): value(found)}


def _rounds(found: Sources) -> Mapping[Labels, Number]:
    rounds, total = found.service.loop.rounds, 0
    values: dict[Labels, Number] = {}
    for limit, count in zip((*Rounds.LIMITS, None), rounds.counts, strict=True):
        total += count
        values[("", "_bucket"), ("le", "+Inf" if limit is None else str(limit))] = total
    values[("", "_count"),] = total
    values[("", "_sum"),] = round(rounds.seconds, 6)
    return values


def _addresses(found: Sources) -> int:
    interfaces = found.service.network.network.interfaces
    return sum(len(interface.addresses) for interface in interfaces.values())


def _clients(found: Sources) -> int:
    return 0 if found.control.server is None else len(found.control.server.clients)


def _resident(_found: Sources) -> int:
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGESIZE")


FAMILIES = (
    Family("mptcpd_events", "counter", "", "Events of MPTCP that were taken, by kind.", _events),
    Family("mptcpd_malformed", "counter", "", "Notifications that could not be read, dropped.",
           _sources("decode_errors", "decode_errors")),
    Family("mptcpd_overruns", "counter", "", "Times that the kernel dropped notifications.",
           _sources("overruns", "overruns")),
    Family("mptcpd_foreign", "counter", "", "Messages that no kernel sent, dropped.", _foreign),
    Family("mptcpd_retries", "counter", "", "Times that the kernel could not be read, to be read "
           "again.", _sources("retries", "retries")),
    Family("mptcpd_resyncs", "counter", "", "Comparisons of all connections with the kernel.",
           _one(lambda found: found.service.watch.resyncs)),
    Family("mptcpd_resync_found", "counter", "", "What these comparisons found to have changed.",
           _resynced),
    Family("mptcpd_unmatched_events", "counter", "", "Events of connections that are not known.",
           _one(lambda found: found.service.table.unmatched)),
    Family("mptcpd_commands", "counter", "", "Requests to the kernel.", _commands),
    Family("mptcpd_command_errors", "counter", "", "Requests that the kernel refused; without "
           "errno those that had no usable answer.", _command_errors),
    Family("mptcpd_subflows_started", "counter", "", "Subflows that plugins have started: the "
           "first between two addresses of a connection, another after that failed or closed "
           "(retry), or one to take its place (renewal).", _started),
    Family("mptcpd_failed_joins", "counter", "", "Subflows asked for that did not come up.",
           _one(lambda found: found.service.table.failed_joins)),
    Family("mptcpd_hook_failures", "counter", "", "Hooks of plugins that raised.", _hooks),
    Family("mptcpd_strangers", "counter", "", "Connections to announced ports that were no joins.",
           _one(lambda found: found.service.listeners.strangers)),
    Family("mptcpd_reloads", "counter", "", "Reloads.", _reloads),
    Family("mptcpd_control_requests", "counter", "", "Requests at the control socket.",
           _requests),
    Family("mptcpd_control_cut_off", "counter", "", "Clients of the control socket that were "
           "turned away or cut off.", _turned_away),
    Family("mptcpd_control_clients", "gauge", "", "Clients of the control socket.",
           _one(_clients)),
    Family("mptcpd_connections", "gauge", "", "Connections in the table.",
           _one(lambda found: len(found.service.table.by_token))),
    Family("mptcpd_subflows", "gauge", "", "Subflows in the table.",
           _one(lambda found: found.service.table.subflows())),
    Family("mptcpd_interfaces", "gauge", "", "Interfaces that plugins were told of.",
           _one(lambda found: len(found.service.network.network.interfaces))),
    Family("mptcpd_addresses", "gauge", "", "Addresses that plugins were told of.",
           _one(_addresses)),
    Family("mptcpd_endpoints", "gauge", "", "Endpoints of the kernel that this daemon added.",
           _one(lambda found: len(found.service.endpoints.ownership.owned))),
    Family("mptcpd_listeners", "gauge", "", "Sockets that listen for announced ports.",
           _one(lambda found: len(found.service.listeners))),
    Family("mptcpd_loop_round_seconds", "histogram", "seconds", "How long the daemon was busy "
           "between two waits: as long as what came meanwhile had to wait.", _rounds),
    Family("mptcpd_loop_longest_round_seconds", "gauge", "seconds", "The longest of them.",
           _one(lambda found: round(found.service.loop.rounds.longest, 6))),
    Family("process_resident_memory_bytes", "gauge", "bytes", "Resident memory.",
           _one(_resident)),
    Family("process_open_fds", "gauge", "", "Open descriptors.",
           _one(lambda _found: len(os.listdir("/proc/self/fd")) - 1)),
    Family("process_cpu_seconds", "counter", "seconds", "CPU time, user and system.",
           _one(lambda _found: round(time.process_time(), 3))),
    Family("mptcpd_build", "info", "", "Which mptcpd this is.",
           lambda _found: {(("version", __version__),): 1}),
)  # fmt: skip
_SUFFIX = {"counter": "_total", "info": "_info"}


class Sample(NamedTuple):
    """One number. ``name`` is the full one."""

    name: str
    labels: Labels
    value: Number


def families(
    service: Service, reload: Reload, control: Control
) -> Iterator[tuple[Family, list[Sample]]]:
    """Every family with its samples, as they are now."""
    found = Sources(service, reload, control)
    for family in FAMILIES:
        samples = []
        for labels, value in family.values(found).items():
            name = family.name + _SUFFIX.get(family.kind, "")
            if labels and not labels[0][0]:  # the parts of a histogram bring their suffix
                name, labels = family.name + labels[0][1], labels[1:]
            samples.append(Sample(name, labels, value))
        yield family, samples


def openmetrics(
    found: Iterable[tuple[Family, list[Sample]]], *, classic: bool = False
) -> str:
    """The text. ``classic``: of the older format, which wants a counter's whole name."""
    lines = []
    for family, samples in found:
        name, kind = family.name, family.kind
        if classic:
            name += _SUFFIX.get(kind, "")
            kind = "gauge" if kind == "info" else kind
        lines.append(f"# TYPE {name} {kind}")
        if family.unit and not classic:
            lines.append(f"# UNIT {name} {family.unit}")
        lines.append(f"# HELP {name} {_escaped(family.about)}")
        for sample in samples:
            labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels)
            lines.append(f"{sample.name}{{{labels}}} {sample.value}" if labels
                         else f"{sample.name} {sample.value}")  # fmt: skip
    if not classic:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def as_json(found: Iterable[tuple[Family, list[Sample]]]) -> dict[str, object]:
    """Name -> a number, or a list of objects with labels and value."""
    values: dict[str, object] = {}
    for _family, samples in found:
        for sample in samples:
            if not sample.labels:
                values[sample.name] = sample.value
                continue
            known = values.setdefault(sample.name, [])
            assert isinstance(known, list)
            known.append({**dict(sample.labels), "value": sample.value})
    return values


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
