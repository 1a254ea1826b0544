"""Every fuzz test begins with nothing learnt, whatever ran before it: see ``parsers.forget``."""

from __future__ import annotations

import pytest

from tests.fuzz import parsers


@pytest.fixture(autouse=True)
def _nothing_learnt() -> None:
    parsers.forget()
