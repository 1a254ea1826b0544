"""What every test run shares: how hard hypothesis tries, and a summary of what was not tested.

HYPOTHESIS_PROFILE   "gate" (default): the same examples on every machine and every run, so that a
                     failure belongs to the change; "hunt": new ones from --hypothesis-seed.
                     tests/test_gate.py holds "gate" to that. "mutate": as "gate", but what fails
                     is not made smaller first.
GATE_EXAMPLES        how many examples the others try for each test: 100. An emulated machine, which
                     takes twenty times as long, tries fewer.
HUNT_EXAMPLES        how many "hunt" tries.

A fuzz test sets no max_examples of its own, or hunting could not raise it.
"""

from __future__ import annotations

import collections
import contextlib
import os

import pytest
from hypothesis import HealthCheck, Phase, settings

# No deadline and no too_slow: a busy machine is no finding. No database: a seed alone says it all.
settings.register_profile(
    "gate",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=int(os.environ.get("GATE_EXAMPLES", "100")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "hunt",
    settings.get_profile("gate"),
    derandomize=False,
    max_examples=int(os.environ.get("HUNT_EXAMPLES", "1000")),
    print_blob=True,
)
settings.register_profile(
    "mutate", settings.get_profile("gate"), phases=[Phase.explicit, Phase.generate]
)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "gate")
settings.load_profile(PROFILE)
# hypothesis likes to draw numbers and strings that stand in the modules loaded so far: then what a
# test is given depends on which other tests were collected, and on any change to any of them.
# There is no setting against it; a version without this module or function never looked.
with contextlib.suppress(ImportError):
    from hypothesis.internal.conjecture import providers

    if PROFILE != "hunt" and hasattr(providers, "_get_local_constants"):
        providers._get_local_constants = lambda: providers._local_constants  # still none


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was skipped, grouped by reason: a kernel test that did not run is to be seen."""
    reasons: collections.Counter[str] = collections.Counter()
    for report in terminalreporter.stats.get("skipped", []):
        # A skip's longrepr is (file, line, "Skipped: reason"); an expected failure's is not.
        if isinstance(report.longrepr, tuple):
            reasons[str(report.longrepr[2]).removeprefix("Skipped: ")] += 1
    if reasons:
        terminalreporter.section("not tested here")
        for reason, count in reasons.most_common():
            terminalreporter.line(f"{count:5} skipped: {reason}")
