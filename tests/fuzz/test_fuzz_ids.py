"""Claim: no address ID is held twice, none changes by itself, none is taken from the kernel's own
endpoints of other addresses, and there is one for every address as long as any is free.

Which one it is: that of the address's endpoint, else the one that it had last (if no other address
had it since, and peers can know it), else the lowest that is free. The model is plain dicts.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mptcpd.core import ids
from mptcpd.core.address import sockaddr
from mptcpd.core.ids import AddressIds, NoFreeId

FEW = 5  # IDs that there are here, so that they run out
TEXTS = [f"10.0.0.{number}" for number in range(1, 8)]
ADDRESSES = st.sampled_from(TEXTS)


class Machine(RuleBasedStateMachine):
    @initialize()
    def few(self) -> None:
        self.patch: Any = mock.patch.object(ids, "_ALL", range(1, FEW + 1))
        self.patch.start()
        self.ids = AddressIds()
        self.model: dict[str, int] = {}
        self.former: dict[int, str] = {}
        self.kernel: dict[int, str] = {}

    def teardown(self) -> None:
        self.patch.stop()

    @rule(address=ADDRESSES)
    def get(self, address: str) -> None:
        if address in self.model:
            assert self.ids.get(address) == self.model[address]
            return
        held = set(self.model.values())
        theirs = [i for i, owner in self.kernel.items() if owner == address and i not in held]
        again = [i for i, owner in self.former.items() if owner == address]
        free = [
            i for i in (*again, *range(1, FEW + 1)) if i not in held and i not in self.kernel
        ]
        if not theirs + free:
            with pytest.raises(NoFreeId):
                self.ids.get(address)
            return
        got = self.ids.get(address)
        assert got == (theirs + free)[0]
        self.model[address] = got
        self.former = {
            i: owner for i, owner in self.former.items() if i != got and owner != address
        }

    @rule(address=ADDRESSES, seen=st.booleans())
    def remove(self, address: str, seen: bool) -> None:
        had = self.model.pop(address, None)
        assert self.ids.remove(address, seen=seen) == had
        if had is not None and seen:
            self.former[had] = address

    @rule(address=ADDRESSES, other=ADDRESSES)
    def goes_and_returns(self, address: str, other: str) -> None:
        """When a lower one is free: single steps come upon that too rarely."""
        self.remove(address, True)
        self.remove(other, True)
        if len(self.model) + len(self.kernel) + 2 <= FEW:
            self.get(other)
            self.get(address)
            self.remove(other, True)
            self.remove(address, True)
            self.get(address)

    @rule(endpoints=st.dictionaries(st.integers(1, FEW), ADDRESSES, max_size=FEW))
    def learn(self, endpoints: dict[int, str]) -> None:
        assume(len(set(endpoints.values())) == len(endpoints))
        self.kernel = endpoints
        self.ids.learn((sockaddr(address), ident) for ident, address in endpoints.items())

    @invariant()
    def none_twice(self) -> None:
        held = [self.ids.find(text) for text in TEXTS]
        assert held == [self.model.get(text) for text in TEXTS]
        numbers = [ident for ident in held if ident is not None]
        assert len(set(numbers)) == len(numbers)
        assert all(1 <= ident <= FEW for ident in numbers)


TestIds = Machine.TestCase
