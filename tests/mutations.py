"""Deliberate faults in parsers and state machines, each of which the fuzz tests must see.

    python -m tests.mutations [WORD]      only those with WORD in their file or description

Each is put into a copy of the source, where the gate profile's fuzz tests (``tests/fuzz``) run
until one fails: first the claim that is about it, then the others. A fault that none of them sees
ends in exit code 1, whatever unit tests would see; a run that had to be ended (LIMIT) has seen
nothing. Not a part of ``make check``: it takes some minutes. That every fault can still be put in
is checked there (``test_mutations.py``).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

TOP = Path(__file__).resolve().parent.parent
LIMIT = 150  # seconds of CPU for a run of tests; all of them take 45
MEMORY = 2_000_000  # KiB of addresses for it: what loops may collect things
WORKERS = 2
# By where the fault is: the fuzz tests that are about it, then the others.
FUZZ = "tests/fuzz/test_fuzz_"
ABOUT = {
    "nl/notify": [f"{FUZZ}notify.py"],
    "nl/": [
        *(f"{FUZZ}{name}.py" for name in ("nl", "nl_ways", "byte_order", "linear")),
        "tests/fuzz/test_regressions.py",
    ],
    "core/config": [f"{FUZZ}config.py"],
    "core/path": [f"{FUZZ}connections.py"],
    "core/connections": [f"{FUZZ}connections.py"],
    "core/network": [f"{FUZZ}network.py"],
    "core/resync": [f"{FUZZ}connections.py"],
    "core/joins": [f"{FUZZ}joins.py"],
    "core/renewal": [f"{FUZZ}joins.py"],
    "core/holddown": [f"{FUZZ}holddown.py"],
    "core/ids": [f"{FUZZ}ids.py", f"{FUZZ}slots.py"],
    "core/listeners": [f"{FUZZ}listeners.py"],
    "core/registry": [f"{FUZZ}registry.py"],
    "core/daemon": [f"{FUZZ}daemon.py"],
    "cli/control": [f"{FUZZ}control.py"],
    "cli/notify": [f"{FUZZ}notify.py"],
}
ALL = ["tests/fuzz"]


class Mutation(NamedTuple):
    """``old`` stands once in ``file`` (of mptcpd/), and becomes ``new``.

    by  tests that should see it, as for ``pytest -k``; empty: all about that part
    """

    file: str
    what: str
    by: str
    old: str
    new: str


MUTATIONS = [
    # --- bounds
    Mutation("nl/attrs.py", "an attribute shorter than its header", "attributes_are_where",
             "if length < _HEADER.size:", "if length < 3:"),
    Mutation("nl/attrs.py", "an attribute longer than the rest", "attributes_are_where",
             "if length > end - offset:", "if length > end - offset + 4:"),
    Mutation("nl/attrs.py", "the last header cut short", "attributes_are_where",
             "while end - offset >= _HEADER.size:", "while end - offset >= 1:"),
    Mutation("nl/attrs.py", "a scalar longer than its own",
             "parse_address or RTM_NEWLINK or parse_plain",
             "if len(payload) != size:", "if len(payload) < size:"),
    Mutation("nl/attrs.py", "a NUL inside a string", "parse_family or LINK or parse_error",
             'if b"\\0" in text:', "if False:"),
    Mutation("nl/attrs.py", "a string that is no UTF-8", "parse_family or LINK or parse_error",
             '"surrogateescape"', '"strict"'),
    Mutation("nl/attrs.py", "a view into the buffer", "any_bytes_attrs",
             "bytes(buf[offset + _HEADER.size : offset + length])",
             "buf[offset + _HEADER.size : offset + length]"),
    Mutation("nl/attrs.py", "the rest copied for each attribute", "test_time and attrs",
             "        offset += (length + 3) & ~3",
             "        buf = bytes(offset) + buf[offset:]\n        offset += (length + 3) & ~3"),
    Mutation("nl/messages.py", "a message shorter than its header", "messages_are_where",
             "        if length < HEADER:", "        if length < 4:"),
    Mutation("nl/messages.py", "a message longer than the rest", "messages_are_where",
             "        if length > end - offset:", "        if length > end:"),
    Mutation("nl/messages.py", "the last header cut short", "messages_are_where",
             "if end - offset < HEADER:", "if end - offset < 4:"),
    Mutation("nl/messages.py", "an error of a few bytes", "any_bytes_messages",
             "if len(payload) < nlmsgerr.size:", "if len(payload) < 4:"),
    Mutation("nl/messages.py", "an end of a dump of a few bytes", "any_bytes_messages",
             "if len(payload) < _ERRNO:", "if len(payload) < 0:"),
    Mutation("nl/messages.py", "an error number that is none", "any_bytes_messages",
             "if not -_MAX_ERRNO <= error <= 0:", "if not error <= 0:"),
    Mutation("nl/genl.py", "a genlmsghdr cut short", "any_bytes_genl",
             "if len(payload) < HEADER:", "if len(payload) < 0:"),
    Mutation("nl/genl.py", "a family without a name", "any_bytes_genl",
             "CTRL_ATTR_FAMILY_ID not in found or", "CTRL_ATTR_FAMILY_ID not in found and"),
    Mutation("nl/genl.py", "a group without an ID", "any_bytes_genl",
             "CTRL_ATTR_MCAST_GRP_NAME not in group or",
             "CTRL_ATTR_MCAST_GRP_NAME not in group and"),
    Mutation("nl/mptcp.py", "limits that lack one", "any_bytes_mptcp_parse",
             "if kind not in found:", "if not found:"),
    Mutation("nl/mptcp.py", "an endpoint without its address", "any_bytes_mptcp_parse",
             "if family == AF_INET and u.MPTCP_PM_ADDR_ATTR_ADDR4 in found:",
             "if family == AF_INET:"),
    Mutation("nl/mptcp.py", "an IPv6 address of any length", "any_bytes_mptcp_parse",
             "found[u.MPTCP_PM_ADDR_ATTR_ADDR6], 16)",
             "found[u.MPTCP_PM_ADDR_ATTR_ADDR6], len(found[u.MPTCP_PM_ADDR_ATTR_ADDR6]))"),
    Mutation("nl/mptcp_event.py", "an event without what it cannot do without",
             "table_takes or batches",
             'u.MPTCP_EVENT_CREATED: ("token", *_PAIR),', 'u.MPTCP_EVENT_CREATED: ("token",),'),
    Mutation("nl/diag.py", "an attribute of a socket beyond its end", "mptcp_info",
             "if length < nlattr.size or length > end - start:", "if length < nlattr.size:"),
    Mutation("nl/diag.py", "an attribute of a socket shorter than its header",
             "any_bytes_diag or sockets_are_found",
             "if length < nlattr.size or length > end - start:", "if length > end - start:"),
    Mutation("nl/diag.py", "mptcp_info cut short", "mptcp_info",
             "if length < _INFO_LEAST:", "if length < 1:"),
    Mutation("nl/diag.py", "a socket of another family", "any_bytes_diag",
             "elif family != AF_INET6:", "elif family > 200:"),
    Mutation("nl/diag.py", "an inet_diag_msg cut short", "any_bytes_diag",
             "if len(payload) < MESSAGE:", "if len(payload) < 4:"),
    Mutation("nl/rtnl.py", "an ifinfomsg cut short", "LINK",
             "if len(payload) < IFINFOMSG:", "if len(payload) < 4:"),
    Mutation("nl/rtnl.py", "an ifaddrmsg cut short", "ADDR",
             "if len(payload) < IFADDRMSG:", "if len(payload) < 1:"),
    Mutation("nl/rtnl.py", "an rtmsg cut short", "ROUTE",
             "if len(payload) < RTMSG:", "if len(payload) < 4:"),
    Mutation("nl/rtnl.py", "statistics cut short", "LINK",
             "if stats is not None and len(stats) < _STATS64.size:", "if stats == b'':"),
    Mutation("nl/rtnl.py", "lifetimes cut short", "ADDR",
             "if cache is not None and len(cache) < ifa_cacheinfo.size:", "if cache == b'':"),
    Mutation("nl/rtnl.py", "a next hop of length 0", "ROUTE",
             "if not rtnexthop.size <= length <=", "if not 0 <= length <="),
    Mutation("nl/rtnl.py", "a link without a name", "LINK",
             "if u.IFLA_IFNAME not in found:", "if not found:"),
    Mutation("nl/_attrs.py", "shapes without end", "learnt_in_bounds",
             "if len(self._known) >= self.MOST:", "if len(self._known) >= 1 << 30:"),
    Mutation("nl/exchange.py", "what is no nest looked into", "what_was_found",
             "            break  # what is no nest", "            pass  # what is no nest"),
    Mutation("nl/errors.py", "a number that strerror cannot take", "what_was_found",
             " and len(number) <= 4", ""),
    # --- byte order
    Mutation("nl/attrs.py", "ports in host order", "ports_of_events",
             'int.from_bytes(_exactly(name, payload, 2), "big")',
             'int.from_bytes(_exactly(name, payload, 2), "little")'),
    Mutation("nl/attrs.py", "u32 in network order", "compiled_is_plain or events_built",
             '_U32 = Struct("=I")', '_U32 = Struct(">I")'),
    Mutation("nl/mptcp_event.py", "ports of known shapes in host order", "ports_of_events",
             '_BE16 = Struct(">H").unpack', '_BE16 = Struct("<H").unpack'),
    Mutation("nl/mptcp_event.py", "ports built in host order", "ports_of_events",
             'order = "big" if form == "be16" else ORDER', "order = ORDER"),
    Mutation("nl/mptcp.py", "an endpoint's port in network order", "ports_of_addresses",
             "number(u.MPTCP_PM_ADDR_ATTR_PORT, attrs.u16)",
             "number(u.MPTCP_PM_ADDR_ATTR_PORT, attrs.be16)"),
    Mutation("nl/diag.py", "a socket's ports in host order", "ports_of_sockets",
             '_BE16 = Struct(">H").unpack', '_BE16 = Struct("<H").unpack'),
    Mutation("nl/diag.py", "a token one word too early", "mptcp_info",
             "_INFO_FLAGS, _INFO_TOKEN = 8, 12", "_INFO_FLAGS, _INFO_TOKEN = 12, 8"),
    # --- off by one, pads and flags
    Mutation("nl/attrs.py", "no pad between attributes", "attributes_are_where",
             "offset += (length + 3) & ~3", "offset += length"),
    Mutation("nl/attrs.py", "flags taken for a part of the type", "attributes_are_where",
             "found.append((kind & TYPE_MASK,", "found.append((kind,"),
    Mutation("nl/messages.py", "no pad between messages", "messages_are_where",
             "offset += (length + 3) & ~3", "offset += length"),
    Mutation("nl/_attrs.py", "a nest too long", "attributes_built",
             "length = self._end - start\n", "length = self._end - start + 4\n"),
    Mutation("nl/_attrs.py", "no pad behind what is built", "attributes_built",
             "payload + bytes(-length & 3))", "payload)"),
    # --- the quick ways
    Mutation("nl/_attrs.py", "a shape known by its first attribute", "compiled_is_plain",
             "if values[0::2] != layout[1]:", "if values[0] != layout[1][0]:"),
    Mutation("nl/_attrs.py", "a shape known by its length", "batches",
             "return layout is not None and layout[3](buffer, start) == layout[1]",
             "return layout is not None"),
    Mutation("nl/mptcp_reader.py", "a message as long as it says, whatever came", "batches",
             "if size == length and kind == family:", "if kind == family:"),
    Mutation("nl/mptcp_reader.py", "messages of other families", "batches or datagrams",
             "if size == length and kind == family:", "if size == length:"),
    Mutation("nl/mptcp_reader.py", "a token that is none", "batches",
             "if quick is not None and first == _TOKEN:", "if quick is not None:"),
    Mutation("nl/mptcp_reader.py", "a CLOSED with anything behind its token", "batches",
             "alone = rest == 8", "alone = rest >= 8"),
    Mutation("nl/mptcp_reader.py", "an ESTABLISHED that is malformed", "batches",
             "if matches(command, memory, body, rest) and quick.established(token):",
             "if quick.established(token):"),
    Mutation("nl/shapes.py", "a socket of another shape", "sockets_are_found",
             "if self._fixed(found) != self._is:", "if not found:"),
    Mutation("nl/exchange.py", "answers to somebody else's question", "dumps_are_read",
             "                or seq != self._seq\n", ""),
    Mutation("nl/exchange.py", "a dump that was interrupted", "dumps_are_read",
             "                or flags & NLM_F_DUMP_INTR\n", ""),
    Mutation("nl/exchange.py", "half a message at the end", "dumps_are_read",
             "        if offset < end:\n            return False\n", ""),
    # --- the configuration
    Mutation("core/config.py", "what cannot be seen", "",
             'if not character.isprintable() and character != "\\t":', "if False:"),
    Mutation("core/config.py", "a setting before any group", "",
             "if entries is None:", "if entries is None and not key:"),
    Mutation("core/config.py", "lines counted from 0", "",
             '.split("\\n"), 1):', '.split("\\n"), 0):'),
    Mutation("core/config_values.py", "flags that exclude each other", "",
             'if {"signal", "fullmesh"} <= found:', 'if {"signal", "fullmesh"} == found:'),
    Mutation("core/config_values.py", "a plugin outside of its directory", "",
             'if "/" in name or name != name.strip():', "if name != name.strip():"),
    # --- state
    Mutation("core/connections.py", "a connection opened twice", "",
             "if token in self.by_token or self._gone", "if self._gone"),
    Mutation("core/connections.py", "a connection established twice", "",
             "(u.MPTCP_EVENT_ESTABLISHED, ESTABLISHED): (ESTABLISHED, ()),",
             '(u.MPTCP_EVENT_ESTABLISHED, ESTABLISHED): (2, ("connection_established",)),'),
    Mutation("core/connections.py", "an address announced twice", "",
             "if connection.remote_addresses.get(event.remote_id) != address:", "if True:"),
    Mutation("core/connections.py", "a subflow established twice", "",
             "if connection.find(path) is not None or (connection.token, path) in self._gone:",
             "if (connection.token, path) in self._gone:"),
    Mutation("core/connections.py", "a subflow closed twice", "",
             "if connection.closed_before(path) or not event.error:", "if not event.error:"),
    Mutation("core/connections.py", "a priority that is no change", "",
             "if known is not None and known.backup != backup:", "if known is not None:"),
    Mutation("core/connections.py", "events older than the resync", "",
             " and token not in self._gone:", ":"),
    Mutation("core/connections.py", "a connection that stays when it has closed", "",
             "if after == ABSENT:\n            self._ended(connection)",
             "if after == ABSENT:\n            pass"),
    Mutation("core/path.py", "IPv4-mapped paths left as they are", "",
             "return path[12:18] + path[30:]", "return path"),
    Mutation("core/network.py", "an address told twice", "",
             "            if ip not in told:\n", "            if True:\n"),
    Mutation("core/network.py", "an address that stays when it is gone", "",
             "            held.pop(_key(address), None)\n", "            held.get(address.ip)\n"),
    Mutation("core/network.py", "an interface that is lost before its addresses", "",
             "        self._tell_addresses(interface, left)\n        if not held and",
             "        if not held and"),
    Mutation("core/network.py", "an interface updated without a change", "",
             "elif interface.update(link, flags):", "elif interface.update(link, flags) or True:"),
    Mutation("core/network.py", "a batch that tells of each event", "",
             "            self._touched[ifindex] = None\n            return\n",
             "            self._touched[ifindex] = None\n"),
    Mutation("core/resync.py", "what slipped past a dump believed gone", "",
             "if not marks.get(token, 0) & _SEEN and self._is_gone(token)",
             "if not marks.get(token, 0) & _SEEN"),
    Mutation("core/resync.py", "a subflow on its way taken for failed", "",
             "if (connection.token, pair) not in self._under_way:", "if True:"),
    Mutation("core/resync.py", "a subflow whose failure was lost awaited for ever", "",
             "if (connection.token, pair) not in self._under_way:", "if False:"),
    Mutation("core/resync.py", "a connection without a token", "",
             "        if not token:  # it was given back while the dump ran\n"
             "            return\n", ""),
    Mutation("core/ids.py", "an address ID held twice", "",
             "            if ident not in self._used:\n", "            if True:\n"),
    Mutation("core/listeners.py", "a port closed while somebody holds it", "",
             "if users > 1:", "if users > 2:"),
    Mutation("core/joins.py", "a pair that failed tried again", "",
             "if pair in tried.pending or pair in tried.failed:", "if pair in tried.pending:"),
    Mutation("core/joins.py", "the last subflow given up", "",
             "if locals_used == {ip}:", "if not locals_used:"),
    Mutation("core/renewal.py", "a new subflow that comes too late stays", "",
             "return found.subflow if self._clock() <= found.until else subflow",
             "return found.subflow"),
    Mutation("core/holddown.py", "a wait that begins anew with every look", "",
             "since = before.get(key, now)", "since = now"),
    Mutation("core/registry.py", "a plugin that exits", "",
             "FAILURES = (Exception, SystemExit)", "FAILURES = (Exception,)"),
    # --- what clients and service managers are told
    Mutation("cli/control_protocol.py", "a request that is too deep", "",
             "except (ValueError, RecursionError) as error:", "except ValueError as error:"),
    Mutation("cli/notify.py", "a status of several lines", "any_status",
             'return " ".join("".join(c if c.isprintable() else " " for c in text).split())',
             "return text"),
]  # fmt: skip


def apply(mutation: Mutation, top: Path) -> None:
    """Put a fault into the tree at ``top``. Errors: ValueError if it does not fit the source."""
    file = top / "mptcpd" / mutation.file
    text = file.read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.file}: {text.count(mutation.old)} times {mutation.old!r}")
    changed = text.replace(mutation.old, mutation.new)
    compile(changed, str(file), "exec")
    file.write_text(changed)


def tried(top: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    """Run tests on the tree at ``top`` until one fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        ["sh", "-c", f'ulimit -v {MEMORY}; ulimit -t {LIMIT}; exec "$@"', "sh", *command],
        cwd=top,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "mutate"},
        capture_output=True,
        text=True,
    )


def sees(top: Path, tests: list[str]) -> str | None:
    """The test that fails on the tree at ``top``, or None."""
    run = tried(top, tests)
    if run.returncode < 0 or run.returncode in (0, 5):  # ended by a signal; 5: -k chose none
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (tests/\S+)", run.stdout, re.MULTILINE)
    return failed[1] if failed else run.stdout[-300:] + run.stderr[-300:]


class Verdict(NamedTuple):
    """seen: the test that saw it, or None; seconds: by the clock, until then."""

    seen: str | None
    seconds: float


def try_one(mutation: Mutation, top: Path) -> Verdict:
    began = time.monotonic()
    file = top / "mptcpd" / mutation.file
    whole = file.read_text()
    apply(mutation, top)
    about = next(tests for start, tests in ABOUT.items() if mutation.file.startswith(start))
    try:
        seen = sees(top, [*about, "-k", mutation.by]) if mutation.by else None
        seen = seen or sees(top, about) or sees(top, ALL)
    finally:
        file.write_text(whole)
    return Verdict(seen, time.monotonic() - began)


def main(word: str = "") -> int:
    chosen = [one for one in MUTATIONS if word in f"{one.file}: {one.what}"]
    unseen = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WORKERS) as pool:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(WORKERS):
            trees.put(Path(folder, f"mptcpd{number}"))
            ignored = shutil.ignore_patterns(".*", "__pycache__")
            shutil.copytree(TOP, Path(folder, f"mptcpd{number}"), ignore=ignored)

        def in_a_tree(function: Callable[..., Any], *arguments: Any) -> Any:
            top = trees.get()
            try:
                return function(*arguments, top)
            finally:
                trees.put(top)

        whole = in_a_tree(lambda top: tried(top, ALL))
        if whole.returncode != 0:
            print(f"the tests fail without any fault: {whole.stdout}{whole.stderr}")
            return 1
        print(f"no fault: all pass ({time.monotonic() - began:.0f} s)", flush=True)
        results = pool.map(lambda one: in_a_tree(try_one, one), chosen)
        for number, (mutation, verdict) in enumerate(zip(chosen, results, strict=True), 1):
            unseen += verdict.seen is None
            said = verdict.seen or "NOT SEEN BY THE GATE"
            print(
                f"{number:3} {mutation.file}: {mutation.what}: {said} ({verdict.seconds:.1f} s)",
                flush=True,
            )
    print(
        f"{len(chosen)} faults in {time.monotonic() - began:.0f} s: {len(chosen) - unseen} seen by "
        f"the gate profile's fuzz tests, {unseen} not"
    )
    return 1 if unseen or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
