"""The faults of ``make mutate`` still fit the source; that tests see them is shown there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations import MUTATIONS, TOP, Mutation, apply


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: f"{one.file}-{one.what}")
def test_it_can_be_put_in(mutation: Mutation, tmp_path: Path) -> None:
    file = tmp_path / "mptcpd" / mutation.file
    file.parent.mkdir(parents=True)
    text = (TOP / "mptcpd" / mutation.file).read_text()
    file.write_text(text)
    apply(mutation, tmp_path)
    assert file.read_text() != text


def test_enough_of_them() -> None:
    assert len(MUTATIONS) >= 40
    assert len(set(MUTATIONS)) == len(MUTATIONS)
