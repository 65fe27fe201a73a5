"""kill -9 of supervisor, shim and both at random moments under load; the seed is printed."""

from __future__ import annotations

import random

import pytest

from tests.soak.lives import PLAIN
from tests.soak.soak import Plan, Soak


@pytest.mark.timeout(120)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_whoever_dies_all_that_can_be_known_is_told(tmp_path, backend):
    """After both died at once an end may be unknown, with a reason in `inspect`, nothing else."""
    plan = Plan(
        3,
        random.SystemRandom().randrange(1 << 32),
        slots=20,
        victims={"supervisor": 2, "shim": 2, "both": 1},
        every_s=0.5,
        pause_s=(0.1, 1.5),
        backend=backend,
        ways=PLAIN,
    )
    soak = Soak(plan, tmp_path, say=lambda words: None)
    passed = soak.run()
    print(soak.closing_count())
    assert passed, soak.closing_count()
    assert soak.tally.containers >= 20
