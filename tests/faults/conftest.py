"""Faults are brought upon real containers, as root, in engines of the test's own."""

from __future__ import annotations

import os

import pytest

from tests.real.conftest import fresh_engine, nothing_is_left
from tests.real.test_cancellation import config_for, engine_in

__all__ = ["fresh_engine", "nothing_is_left"]


@pytest.fixture
async def engine(tmp_path, anyio_backend):
    """An engine in this very process, with a real shim; one life before all counts is over.

    So everything is there that stays for good.
    """
    async with engine_in(tmp_path, anyio_backend) as made:
        container = await made.create("first", config_for(made))
        await made.start(container)
        await made.kill(container)
        await made.remove(container)
        yield made


def pytest_collection_modifyitems(items):
    if os.geteuid() == 0:
        return
    for item in items:
        if "tests/faults" in item.path.as_posix():
            item.add_marker(pytest.mark.skip(reason="real containers need root"))
