"""kill -9 in the middle of pull, load, build, commit and import, each once; the seed is printed.

The long one: `python -m tests.soak.store_kills --kills 50`.
"""

from __future__ import annotations

import random

import pytest

from tests.soak.store_kills import OPERATIONS, StoreKills


@pytest.mark.timeout(180)
def test_the_store_survives_a_kill_at_any_moment(tmp_path):
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    soak = StoreKills(tmp_path, seed)
    try:
        soak.begin()
        for what in OPERATIONS:
            soak.kill_once(what)
    finally:
        soak.close()
