"""The codec against what others on this machine say: the kernel's own policy, ss(8), ip-mptcp(8).

The constants are compared with the installed headers in ``tests/nl/test_uapi.py``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from lab import Host, traffic, wait_until
from mptcpd.nl import attrs, diag, genl, mptcp
from mptcpd.nl import uapi as u
from mptcpd.nl.diag_client import DiagClient
from mptcpd.nl.mptcp import Address
from mptcpd.nl.sock import CommandSocket
from tests.kernel.conftest import TwoHosts

# linux/netlink.h: enum netlink_attribute_type -> bytes of a value; 0 for a nest, None for any
SIZES = {2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 2, 8: 4, 9: 8, 10: None, 11: None, 12: None, 13: 0}
_TYPE, _MIN_LENGTH, _MAX_LENGTH, _INDEX = 1, 6, 7, 8  # NL_POLICY_TYPE_ATTR_*
_DO, _DUMP = 1, 2  # CTRL_ATTR_POLICY_*
# An attribute of a policy: type, shortest and longest length, the policy inside if it is a nest.
Rule = tuple[int, int | None, int | None, int | None]


# --- the kernel's policy ---------------------------------------------------------------------


class Policies:
    """What nlctrl says of a family: the attributes that each command takes.

    by_command  (command, whether it is a dump) -> the number of its policy
    rules       number of a policy -> attribute -> Rule
    """

    def __init__(self, commands: CommandSocket, family: str) -> None:
        name = [(u.CTRL_ATTR_FAMILY_NAME, family.encode() + b"\0")]
        body = genl.header(u.CTRL_CMD_GETPOLICY) + attrs.build(name)
        self.by_command: dict[tuple[int, bool], int] = {}
        self.rules: dict[int, dict[int, Rule]] = {}
        for answer in commands.dump(u.GENL_ID_CTRL, body, "CTRL_CMD_GETPOLICY"):
            found = attrs.parse(answer, genl.HEADER)
            for command, nest in attrs.split(found.get(u.CTRL_ATTR_OP_POLICY, b"")):
                for kind, number in attrs.split(nest):
                    self.by_command[command, kind == _DUMP] = attrs.u32("a policy", number)
            for index, nest in attrs.split(found.get(u.CTRL_ATTR_POLICY, b"")):
                for attribute, inside in attrs.split(nest):
                    self.rules.setdefault(index, {})[attribute] = self._rule(inside)

    def _rule(self, nest: bytes) -> Rule:
        said = attrs.parse(nest)
        least, most, index = (
            attrs.u32("a length", said[kind]) if kind in said else None
            for kind in (_MIN_LENGTH, _MAX_LENGTH, _INDEX)
        )
        return attrs.u32("a type", said[_TYPE]), least, most, index


@pytest.fixture
def policies(lone_host: Host) -> Iterator[Policies]:
    with lone_host:
        commands = CommandSocket(u.NETLINK_GENERIC)
    yield Policies(commands, u.MPTCP_PM_NAME)
    commands.close()


NEAR = Address(bytes(4), 1, 2, 3, 4)
FAR = Address(bytes(16), 1, 2, 3, 4)
# All that we ever say with each command, and whether it is a dump.
REQUESTS: dict[str, tuple[bytes, bool]] = {
    "MPTCP_PM_CMD_ADD_ADDR": (mptcp.add_addr(NEAR), False),
    "MPTCP_PM_CMD_DEL_ADDR": (mptcp.del_addr(FAR), False),
    "MPTCP_PM_CMD_GET_ADDR": (mptcp.get_addr(1, 2), False),
    "MPTCP_PM_CMD_GET_ADDR dump": (mptcp.dump_addrs(2), True),
    "MPTCP_PM_CMD_FLUSH_ADDRS": (mptcp.flush_addrs(), False),
    "MPTCP_PM_CMD_SET_LIMITS": (mptcp.set_limits(1, 2), False),
    "MPTCP_PM_CMD_GET_LIMITS": (mptcp.get_limits(), False),
    "MPTCP_PM_CMD_SET_FLAGS": (mptcp.set_flags(NEAR, FAR, 1), False),
    "MPTCP_PM_CMD_ANNOUNCE": (mptcp.announce(1, NEAR), False),
    "MPTCP_PM_CMD_REMOVE": (mptcp.remove(1, 2), False),
    "MPTCP_PM_CMD_SUBFLOW_CREATE": (mptcp.subflow_create(1, NEAR, FAR), False),
    "MPTCP_PM_CMD_SUBFLOW_DESTROY": (mptcp.subflow_destroy(1, NEAR, FAR), False),
}


# Of type NLA_BE32, which the kernel leaves out when it tells of a policy (net/netlink/policy.c).
NOT_TOLD = {u.MPTCP_PM_ADDR_ATTR_ADDR4}


def compare(policies: Policies, index: int, payload: bytes, start: int) -> int:
    """Hold attributes that we built to a policy; how many there were."""
    count = 0
    for kind, data in attrs.split(payload, start):
        if not start and kind in NOT_TOLD and kind not in policies.rules[index]:
            continue
        assert kind in policies.rules[index], f"attribute {kind} has no rule"
        form, least, most, inside = policies.rules[index][kind]
        size = SIZES[form]
        if inside is not None:
            assert size == 0
            count += compare(policies, inside, data, 0)
        elif size is not None:
            assert len(data) == size, f"attribute {kind}: {len(data)} bytes, type {form}"
        if least is not None:
            assert len(data) >= least
        if most is not None:
            assert len(data) <= most
        count += 1
    return count


def test_every_command_is_in_the_table() -> None:
    assert {name.partition(" ")[0] for name in REQUESTS} == set(mptcp.COMMANDS.values())


@pytest.mark.parametrize("name", REQUESTS)
def test_what_we_say_is_what_the_kernel_takes(name: str, policies: Policies) -> None:
    body, dump = REQUESTS[name]
    if (body[0], dump) not in policies.by_command:
        # Before Linux 6.7 all commands had one policy, of which nlctrl tells without commands.
        says_nothing = not attrs.split(body, genl.HEADER)
        if says_nothing:
            return
        index = min(policies.rules)
    else:
        index = policies.by_command[body[0], dump]
    said = compare(policies, index, body, genl.HEADER)
    assert bool(said) == (len(body) > genl.HEADER)


def test_every_attribute_that_we_name_has_a_rule_and_the_other_way(policies: Policies) -> None:
    """What the kernel takes and we do not know would be new since Linux 6.18."""
    nests = {rule[3] for rules in policies.rules.values() for rule in rules.values()}
    outer = {
        kind for index, rules in policies.rules.items() if index not in nests for kind in rules
    }
    inner = {kind for index in nests if index is not None for kind in policies.rules[index]}
    assert outer == set(mptcp.NAMES)
    names = mptcp.NAMES[u.MPTCP_PM_ATTR_ADDR][1]
    assert inner | NOT_TOLD == set(names)


def test_a_length_that_is_wrong_would_be_seen(policies: Policies) -> None:
    index = policies.by_command.get((u.MPTCP_PM_CMD_SET_LIMITS, False), min(policies.rules))
    wrong = genl.header(u.MPTCP_PM_CMD_SET_LIMITS) + attrs.build([(u.MPTCP_PM_ATTR_SUBFLOWS, b"1")])
    with pytest.raises(AssertionError, match="attribute 3: 1 bytes, type 4"):
        compare(policies, index, wrong, genl.HEADER)


# --- ss and ip mptcp -------------------------------------------------------------------------


def run(host: Host, *words: str) -> str:
    """What a program of the system prints on a host; a skip where it is not installed."""
    program = shutil.which(words[0])
    if program is None:
        pytest.skip(f"{words[0]} is not installed (Debian: iproute2)")
    child = host.popen(
        [program, *words[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = child.communicate(timeout=10)
    assert child.returncode == 0, err
    return str(out)


def end(text: str) -> tuple[bytes, int]:
    """``10.0.1.1%eth0:80`` or ``[fd00::1]:80``; the interface that it is bound to is not told."""
    host, _colon, port = text.rpartition(":")
    return ip_address(host.strip("[]").partition("%")[0]).packed, int(port)


def rows(text: str) -> list[tuple[tuple[bytes, int], tuple[bytes, int], str]]:
    """Local end, remote end and the rest of each line of ``ss -nHO``."""
    found = []
    for line in text.splitlines():
        _state, _received, _sent, local, remote, rest = line.split(None, 5)
        found.append((end(local), end(remote), rest))
    return sorted(found)


def test_connections_and_subflows_are_those_that_ss_lists(two_hosts: TwoHosts) -> None:
    client, server = two_hosts.client, two_hosts.server
    run(client, "ss", "-V")
    for host in (client, server):
        host.mptcp.set_limits(2, 2)
    client.mptcp.add_addr(
        Address(ip_address("10.0.2.1").packed, flags=mptcp.FLAGS["subflow"], id=7)
    )
    targets = ["10.0.1.2"] + ["fd00:1::2"] * client.has_ipv6
    with ExitStack() as stack:
        for target in targets:
            connection = traffic.open_connection(client, server, target)
            stack.callback(connection.close)
            if target == "10.0.1.2":
                wait_until(
                    lambda one=connection: traffic.info(one.client).subflows == 1,  # type: ignore[misc]
                    "a second subflow",
                )
        for host in (client, server):
            with host:
                commands = CommandSocket(u.NETLINK_SOCK_DIAG)
            stack.callback(commands.close)
            kernel = DiagClient(commands)
            listed = rows(run(host, "ss", "-MnHOi", "state", "connected", "exclude", "time-wait"))
            ours = sorted(kernel.connections(), key=lambda one: one.path)
            assert [_ends(one.path) for one in ours] == [row[:2] for row in listed]
            assert len(ours) == len(targets)
            for mine, (_local, _remote, rest) in zip(ours, listed, strict=True):
                token = re.search(r"\btoken:([0-9a-f]+)", rest)
                assert token is not None, rest
                assert mine.token == int(token[1], 16)
                subflows = re.search(r"\bsubflows:(\d+)", rest)
                assert mine.info[0] == (int(subflows[1]) if subflows else 0)

            listed = rows(run(host, "ss", "-tnHOi", "state", "connected", "exclude", "time-wait"))
            flows = sorted(kernel.subflows(), key=lambda one: one.path)
            assert [_ends(one.path) for one in flows] == [row[:2] for row in listed]
            assert len(flows) == len(targets) + 1
            for flow, (_local, _remote, rest) in zip(flows, listed, strict=True):
                said = re.search(
                    r"\btcp-ulp-mptcp flags:(\w*) token:\w+\(id:(\d+)\)/(\w+)\(id:(\d+)\)", rest
                )
                assert said is not None, rest
                assert (flow.remote_id, flow.token, flow.local_id) == (
                    int(said[2]), int(said[3], 16), int(said[4]),
                )  # fmt: skip
                joined = u.MPTCP_SUBFLOW_FLAG_JOIN_LOC | u.MPTCP_SUBFLOW_FLAG_JOIN_REM
                assert bool(flow.flags & joined) == ("j" in said[1].lower())


def _ends(path: diag.Path) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
    """As ``ss`` shows them: an IPv4-mapped address as it is."""
    return (path.local_ip, path.local_port), (path.remote_ip, path.remote_port)


def test_endpoints_and_limits_are_those_that_ip_mptcp_shows(lone_host: Host) -> None:
    pm = lone_host.mptcp
    flags = mptcp.FLAGS
    ours = [
        Address(ip_address("10.0.0.1").packed, 0, 1, flags["signal"]),
        Address(ip_address("10.0.0.2").packed, 0, 2, flags["subflow"] | flags["backup"], 1),
        Address(ip_address("fd00::3").packed, 0, 3, flags["subflow"] | flags["fullmesh"]),
        Address(ip_address("127.0.0.1").packed, 4444, 4, flags["signal"]),
    ]
    for endpoint in ours:
        pm.add_addr(endpoint)
    pm.set_limits(3, 4)
    # "10.0.0.2 id 2 subflow backup dev lo", "127.0.0.1 port 4444 id 4 signal"
    shown = []
    for line in run(lone_host, "ip", "mptcp", "endpoint", "show").splitlines():
        ip, *words = line.split()
        named = {key: words[words.index(key) + 1] for key in ("port", "id", "dev") if key in words}
        shown.append(
            Address(
                ip_address(ip).packed,
                int(named.get("port", "0")),
                int(named["id"]),
                sum(bit for word, bit in flags.items() if word in words),
                lone_host.ifindex(named["dev"]) if "dev" in named else None,
            )
        )
    assert sorted(shown) == sorted(ours) == sorted(pm.dump_addrs())
    words = run(lone_host, "ip", "mptcp", "limits", "show").split()
    said = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    limits = pm.get_limits()
    assert said == {"add_addr_accepted": limits.add_addr_accepted, "subflows": limits.subflows}


def test_what_ip_mptcp_sets_is_what_we_see(lone_host: Host) -> None:
    pm = lone_host.mptcp
    run(lone_host, "ip", "mptcp", "limits", "set", "subflows", "5", "add_addr_accepted", "6")
    assert pm.get_limits() == mptcp.Limits(6, 5)
    told = ("10.0.0.9", "id", "9", "dev", "lo", "subflow", "fullmesh")
    run(lone_host, "ip", "mptcp", "endpoint", "add", *told)
    flags = mptcp.FLAGS["subflow"] | mptcp.FLAGS["fullmesh"]
    assert pm.dump_addrs() == [Address(ip_address("10.0.0.9").packed, 0, 9, flags, 1)]
