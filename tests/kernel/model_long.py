"""The claim of ``test_model``, for 1000 operations a run: part of ``make fuzz``, not of the tests.

pytest finds it only by its name. The seed is that of hypothesis (``--hypothesis-seed``), which the
hunt sets for every round.
"""

from __future__ import annotations

import random

import pytest

from tests.kernel import model_run
from tests.kernel.model import SETTINGS

OPERATIONS = 1000


@pytest.mark.usefixtures("namespaces")
def test_endpoints_are_those_of_the_model(pytestconfig: pytest.Config) -> None:
    given = pytestconfig.getoption("hypothesis_seed")
    seed = int(given) if str(given).isdigit() else random.SystemRandom().getrandbits(32)
    # One configuration a round: the hunt's rounds are short.
    name, small = list(SETTINGS)[seed % len(SETTINGS)], bool(seed // len(SETTINGS) % 2)
    said = model_run.report(name, seed, OPERATIONS, small=small)
    assert said is None, said
