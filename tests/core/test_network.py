"""Which interfaces and addresses plugins are told of: every rule of the module's docstring."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from mptcpd.core.network import Network
from mptcpd.nl import rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import NetlinkError
from tests.core.stubs import READY, Noting, address, link

PROMISC = 0x100  # linux/if.h: IFF_PROMISC; it stands for any other flag
NOTIFY = frozenset({"existing", "skip_link_local", "skip_loopback"})


class Case:
    """A network and who is told of it."""

    def __init__(self, notify: frozenset[str] = NOTIFY, routes: set[bytes] | None = None) -> None:
        self.heard = Noting()
        self.routes = routes
        has_route = None if routes is None else self.has_route
        self.network = Network(self.heard, notify, has_route)

    def has_route(self, address: rtnl.Address) -> bool:
        assert self.routes is not None
        return address.ip in self.routes

    def begin(self, links: Iterable[rtnl.Link], addresses: Iterable[rtnl.Address]) -> list[str]:
        self.network.start(links, addresses)
        return self.heard.taken()

    def replace(self, links: Iterable[rtnl.Link], addresses: Iterable[rtnl.Address]) -> list[str]:
        self.network.replace(links, addresses)
        return self.heard.taken()

    def link(self, value: rtnl.Link) -> list[str]:
        self.network.link(value)
        return self.heard.taken()

    def address(self, value: rtnl.Address) -> list[str]:
        self.network.address(value)
        return self.heard.taken()


@pytest.fixture
def case() -> Case:
    """eth2 with 10.0.1.1, told of."""
    case = Case()
    assert case.begin([link()], [address()]) == ["new eth2", "eth2 has 10.0.1.1"]
    return case


# Interfaces


@pytest.mark.parametrize(
    "flags",
    [0, u.IFF_UP, u.IFF_RUNNING, READY | u.IFF_LOOPBACK],
    ids=["down", "no carrier", "not up", "loopback"],
)
def test_an_interface_that_is_not_told(flags: int) -> None:
    case = Case()
    assert case.begin([link(flags=flags)], [address()]) == []
    assert case.network.interfaces == {}
    assert case.address(address("10.0.2.1/24")) == []


def test_an_interface_comes_and_goes(case: Case) -> None:
    assert case.link(link(3)) == ["new eth3"]
    assert case.link(link(3, gone=True)) == ["delete eth3"]
    assert list(case.network.interfaces) == [2]
    assert case.link(link(3, gone=True)) == []


def test_carrier_lost_and_back(case: Case) -> None:
    """The kernel keeps the addresses, and says nothing of them: they go and come all the same."""
    case.address(address("10.0.1.2/24"))
    case.heard.taken()
    assert case.link(link(flags=u.IFF_UP)) == [
        "eth2 lost 10.0.1.1", "eth2 lost 10.0.1.2", "delete eth2",
    ]  # fmt: skip
    assert case.link(link(flags=u.IFF_UP)) == []
    assert case.link(link()) == ["new eth2", "eth2 has 10.0.1.1", "eth2 has 10.0.1.2"]


def test_an_address_that_goes_while_there_is_no_carrier(case: Case) -> None:
    case.link(link(flags=u.IFF_UP))
    case.heard.taken()
    assert case.address(address(gone=True)) == []
    assert case.address(address("10.0.1.9/24")) == []
    assert case.link(link()) == ["new eth2", "eth2 has 10.0.1.9"]


def test_an_interface_that_is_deleted_takes_its_addresses_along(case: Case) -> None:
    assert case.link(link(gone=True)) == ["eth2 lost 10.0.1.1", "delete eth2"]
    assert case.address(address(gone=True)) == []
    # Another interface may get the same number; it has nothing of the old one.
    assert case.link(link(name="wlan0")) == ["new wlan0"]


def test_addresses_of_an_interface_that_is_not_known_yet() -> None:
    case = Case()
    case.begin([], [])
    assert case.address(address()) == []
    assert case.link(link()) == ["new eth2", "eth2 has 10.0.1.1"]


def test_a_rename_and_other_changes(case: Case) -> None:
    interface = case.network.interfaces[2]
    assert case.link(link(name="wan")) == ["update wan"]
    assert case.network.interfaces[2] is interface
    assert (interface.name, interface.flags) == ("wan", READY)
    assert case.link(link(name="wan", flags=READY | PROMISC)) == ["update wan"]
    assert interface.flags == READY | PROMISC
    assert repr(interface) == "<Interface 2 wan>"


def test_the_same_link_again_is_no_change(case: Case) -> None:
    assert case.link(link()) == []
    assert case.link(link()._replace(rx_bytes=1, tx_bytes=2)) == []
    assert case.replace([link()], [address()]) == []


# Addresses


def test_an_address_comes_and_goes(case: Case) -> None:
    assert case.address(address("10.0.1.2/24")) == ["eth2 has 10.0.1.2"]
    assert case.address(address("10.0.1.2/24")) == []
    assert [str(a) for a in case.network.interfaces[2].addresses] == ["10.0.1.1", "10.0.1.2"]
    assert case.address(address("10.0.1.2/24", gone=True)) == ["eth2 lost 10.0.1.2"]
    assert case.address(address("10.0.1.2/24", gone=True)) == []


def test_an_unknown_address_goes(case: Case) -> None:
    assert case.address(address("10.9.9.9/24", gone=True)) == []
    assert case.address(address("10.9.9.9/24", 77, gone=True)) == []
    assert case.address(address("10.0.1.1/16", gone=True)) == []  # not with this prefix length


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (0, True),
        (u.IFA_F_PERMANENT, True),
        (u.IFA_F_TEMPORARY, True),
        (u.IFA_F_TENTATIVE, False),
        (u.IFA_F_TENTATIVE | u.IFA_F_OPTIMISTIC, True),
        (u.IFA_F_OPTIMISTIC, True),
        (u.IFA_F_DADFAILED, False),
        (u.IFA_F_TENTATIVE | u.IFA_F_DADFAILED, False),
        (u.IFA_F_TENTATIVE | u.IFA_F_OPTIMISTIC | u.IFA_F_DADFAILED, False),
        (u.IFA_F_DEPRECATED, False),
        (u.IFA_F_PERMANENT | u.IFA_F_DEPRECATED, False),
    ],
)
def test_which_addresses_can_be_used(case: Case, flags: int, told: bool) -> None:
    value = address("2001:db8::1/64", flags=flags)
    assert case.address(value) == (["eth2 has 2001:db8::1"] if told else [])


def test_an_address_becomes_usable_and_ceases_to_be(case: Case) -> None:
    ip = "2001:db8::1/64"
    assert case.address(address(ip, flags=u.IFA_F_TENTATIVE)) == []
    assert case.address(address(ip)) == ["eth2 has 2001:db8::1"]
    assert case.address(address(ip, flags=u.IFA_F_DEPRECATED)) == ["eth2 lost 2001:db8::1"]
    assert case.address(address(ip)) == ["eth2 has 2001:db8::1"]
    assert case.address(address(ip, flags=u.IFA_F_DADFAILED)) == ["eth2 lost 2001:db8::1"]


@pytest.mark.parametrize(
    ("scope", "flag"),
    [(u.RT_SCOPE_LINK, "skip_link_local"), (u.RT_SCOPE_HOST, "skip_loopback")],
)
def test_scopes_that_are_skipped_if_wanted(scope: int, flag: str) -> None:
    value = address("10.5.5.5/32", scope=scope)
    case = Case(NOTIFY)
    assert case.begin([link()], [value]) == ["new eth2"]
    assert case.address(value) == []
    case = Case(NOTIFY - {flag})
    assert case.begin([link()], [value]) == ["new eth2", "eth2 has 10.5.5.5"]


def test_one_ip_with_two_prefix_lengths(case: Case) -> None:
    """It is one address for plugins, until the last of the two has gone."""
    assert case.address(address("10.0.1.1/32")) == []
    assert case.address(address("10.0.1.1/24", gone=True)) == []
    assert case.address(address("10.0.1.1/32", gone=True)) == ["eth2 lost 10.0.1.1"]


def test_one_ip_with_two_peers(case: Case) -> None:
    case.address(address("10.0.9.1/32", peer="10.0.9.2"))
    assert case.heard.taken() == []
    case.address(address("10.0.9.1/32", peer="10.0.9.3"))
    case.address(address("10.0.9.1/32", peer="10.0.9.2", gone=True))
    assert [str(a) for a in case.network.interfaces[2].addresses] == ["10.0.1.1", "10.0.9.1"]
    assert case.address(address("10.0.9.1/32", peer="10.0.9.3", gone=True)) == [
        "eth2 lost 10.0.9.1"
    ]


def test_one_ip_usable_under_one_prefix_length_only(case: Case) -> None:
    ip = "2001:db8::1"
    assert case.address(address(f"{ip}/64")) == ["eth2 has 2001:db8::1"]
    assert case.address(address(f"{ip}/128", flags=u.IFA_F_DEPRECATED)) == []
    assert case.address(address(f"{ip}/64", gone=True)) == ["eth2 lost 2001:db8::1"]


def test_one_ip_on_two_interfaces(case: Case) -> None:
    case.link(link(3))
    case.heard.taken()
    assert case.address(address(ifindex=3)) == ["eth3 has 10.0.1.1"]
    assert case.address(address(ifindex=2, gone=True)) == ["eth2 lost 10.0.1.1"]
    assert case.link(link(3, u.IFF_UP)) == ["eth3 lost 10.0.1.1", "delete eth3"]


def test_mapped_addresses_show_as_ipv4(case: Case) -> None:
    assert case.address(address("::ffff:10.9.9.9/128")) == ["eth2 has 10.9.9.9"]


# Existing addresses


def test_existing_addresses_are_not_told_unless_wanted() -> None:
    case = Case(NOTIFY - {"existing"})
    assert case.begin([link()], [address()]) == ["new eth2"]
    assert case.address(address()) == []
    assert case.address(address("10.0.1.2/24")) == ["eth2 has 10.0.1.2"]
    assert case.replace([link()], [address(), address("10.0.1.2/24")]) == []


@pytest.mark.parametrize("how", ["address", "carrier", "interface", "dump without it"])
def test_an_existing_address_that_goes_and_returns_is_news(how: str) -> None:
    case = Case(NOTIFY - {"existing"})
    case.begin([link()], [address()])
    if how == "address":
        case.address(address(gone=True))
        case.address(address())
    elif how == "carrier":
        case.link(link(flags=u.IFF_UP))
        case.link(link())
    elif how == "interface":
        case.link(link(gone=True))
        case.link(link())
        case.address(address())
    else:
        case.replace([link()], [])
        case.replace([link()], [address()])
    assert [str(told) for told in case.heard.told[2]] == ["10.0.1.1"]


def test_a_number_used_again_is_not_silent() -> None:
    """The old interface was down all the time, so nothing was withdrawn when it went."""
    case = Case(NOTIFY - {"existing"})
    case.begin([link(flags=0)], [address()])
    case.link(link(flags=0, gone=True))
    case.link(link(name="new"))
    assert case.address(address())[-1:] == ["new has 10.0.1.1"]


def test_one_of_two_prefix_lengths_of_an_existing_address_goes() -> None:
    case = Case(NOTIFY - {"existing"})
    case.begin([link()], [address("10.0.1.1/24"), address("10.0.1.1/32")])
    assert case.heard.told == {2: []}
    assert case.address(address("10.0.1.1/32", gone=True)) == []
    assert case.address(address("10.0.1.1/32")) == []
    case.address(address("10.0.1.1/32", gone=True))
    case.address(address("10.0.1.1/24", gone=True))
    assert case.address(address("10.0.1.1/24"))[-1:] == ["eth2 has 10.0.1.1"]


# Dumps


def test_a_dump_after_lost_events_puts_everything_right(case: Case) -> None:
    case.link(link(3))
    case.address(address("10.0.3.1/24", 3))
    case.link(link(4))
    case.heard.taken()
    calls = case.replace(
        [link(2, u.IFF_UP), link(3, name="wan"), link(5)],
        [address(), address("10.0.3.2/24", 3), address("10.0.5.1/24", 5)],
    )
    assert calls == [
        "eth2 lost 10.0.1.1", "delete eth2",
        "update wan", "wan lost 10.0.3.1", "wan has 10.0.3.2",
        "delete eth4",
        "new eth5", "eth5 has 10.0.5.1",
    ]  # fmt: skip
    assert case.heard.told.keys() == case.network.interfaces.keys() == {3, 5}


def test_a_dump_tells_the_oldest_addresses_first() -> None:
    """As notifications would have; the kernel lists IPv6 addresses the other way round."""
    calls = Case().replace(
        [link()],
        [
            address("10.0.1.2/24")._replace(created=700),
            address("10.0.1.1/24")._replace(created=500),
            address("fd00::3/64")._replace(created=600),
            address("fd00::2/64")._replace(created=400),
            address("fd00::1/64")._replace(created=400),
        ],
    )
    assert [call.split()[-1] for call in calls[1:]] == [
        "fd00::1", "fd00::2", "10.0.1.1", "fd00::3", "10.0.1.2",
    ]  # fmt: skip


def test_a_dump_in_which_everything_is_gone(case: Case) -> None:
    assert case.replace([], []) == ["eth2 lost 10.0.1.1", "delete eth2"]
    assert case.network.interfaces == {}


# Routes


def test_only_addresses_that_a_route_serves() -> None:
    ours = address("10.0.1.1/24")
    case = Case(NOTIFY, routes=set())
    assert case.begin([link()], [ours, address("10.0.2.1/24")]) == ["new eth2"]
    assert case.routes is not None
    case.routes.add(ours.ip)
    assert case.heard.taken() == []
    case.network.routes_changed()
    assert case.heard.taken() == ["eth2 has 10.0.1.1"]
    case.network.routes_changed(2)
    case.network.routes_changed(99)
    assert case.heard.taken() == []
    case.routes.clear()
    case.network.routes_changed(2)
    assert case.heard.taken() == ["eth2 lost 10.0.1.1"]


def test_no_look_up_for_what_is_not_told_anyhow() -> None:
    def never(address: rtnl.Address) -> bool:
        raise AssertionError(f"looked up for {address}")

    network = Network(Noting(), NOTIFY, never)
    network.start(
        [link(1, READY | u.IFF_LOOPBACK), link(2, u.IFF_UP), link(3)],
        [
            address("127.0.0.1/8", 1),
            address("10.0.2.1/24", 2),
            address("fe80::1/64", 3, scope=u.RT_SCOPE_LINK),
            address("fd00::1/64", 3, flags=u.IFA_F_TENTATIVE),
        ],
    )
    network.routes_changed()


def test_a_look_up_without_answer_leaves_what_was_told() -> None:
    """And the next event puts it right."""
    fails = False

    def has_route(_address: rtnl.Address) -> bool:
        if fails:
            raise NetlinkError("no answer")
        return True

    heard = Noting()
    network = Network(heard, NOTIFY, has_route)
    network.start([link()], [address()])
    fails = True
    with pytest.raises(NetlinkError):
        network.address(address("10.0.1.2/24"))
    assert [str(told) for told in heard.told[2]] == ["10.0.1.1"]
    fails = False
    network.routes_changed()
    assert [str(told) for told in heard.told[2]] == ["10.0.1.1", "10.0.1.2"]


def test_one_interface_without_answer_does_not_keep_others_from_being_told() -> None:
    def has_route(address: rtnl.Address) -> bool:
        if address.ifindex == 2:
            raise NetlinkError("no answer")
        return True

    heard = Noting()
    network = Network(heard, NOTIFY, has_route)
    with pytest.raises(NetlinkError):
        network.start([link(2), link(3)], [address(ifindex=2), address("10.0.3.1/24", 3)])
    assert heard.taken() == ["new eth2", "new eth3", "eth3 has 10.0.3.1"]


# Batches


def test_a_batch_is_one_change(case: Case) -> None:
    with case.network.batch():
        case.network.address(address("10.0.1.2/24"))
        case.network.address(address(gone=True))
        case.network.link(link(3))
        case.network.address(address("10.0.3.1/24", 3))
        assert case.heard.calls == []
    assert case.heard.taken() == [
        "eth2 lost 10.0.1.1", "eth2 has 10.0.1.2", "new eth3", "eth3 has 10.0.3.1",
    ]  # fmt: skip


def test_what_comes_and_goes_within_a_batch_is_not_told(case: Case) -> None:
    with case.network.batch():
        case.network.address(address("10.0.1.2/24"))
        case.network.address(address("10.0.1.2/24", gone=True))
        case.network.address(address(gone=True))
        case.network.address(address())
        case.network.link(link(3))
        case.network.link(link(3, gone=True))
    assert case.heard.taken() == []
    with case.network.batch():
        case.network.link(link(name="wan"))
        case.network.link(link(name="wan"))
        case.network.link(link(flags=u.IFF_UP))
        case.network.link(link(name="wan"))
    assert case.heard.taken() == ["update wan"]


def test_a_batch_that_ends_in_an_error_is_told_all_the_same(case: Case) -> None:
    with pytest.raises(LookupError), case.network.batch():
        case.network.address(address("10.0.1.2/24"))
        raise LookupError
    assert case.heard.taken() == ["eth2 has 10.0.1.2"]
    assert case.address(address("10.0.1.3/24")) == ["eth2 has 10.0.1.3"]


# What it costs


def test_nothing_is_kept_of_what_is_gone() -> None:
    """Interfaces of containers and addresses of a pool come and go for years."""
    case = Case(NOTIFY - {"existing"})
    case.begin([link()], [address()])
    for number in range(100):
        index = 10 + number
        case.address(address(f"10.1.{number}.1/24", index, gone=True))
        case.link(link(index))
        case.address(address(f"10.1.{number}.1/24", index))
        case.link(link(index, gone=True))
        case.address(address(f"10.1.{number}.1/24", index, gone=True))
    network = case.network
    assert list(network.interfaces) == list(network._links) == list(network._addresses) == [2]
    case.link(link(gone=True))
    assert not (network.interfaces or network._links or network._addresses or network._silent)


def test_an_address_is_lost_when_no_interface_that_has_it_is_ready(case: Case) -> None:
    ip = address().ip
    assert not case.network.is_lost(ip)
    case.network.link(link(2, u.IFF_UP))
    assert case.network.is_lost(ip)
    case.network.link(link(3))
    case.network.address(address(ifindex=3))
    assert not case.network.is_lost(ip)
    case.network.link(link(3, 0))
    assert case.network.is_lost(ip)
    case.network.link(link(2, gone=True))
    case.network.link(link(3, gone=True))
    assert not case.network.is_lost(ip)  # it may be nobody's
