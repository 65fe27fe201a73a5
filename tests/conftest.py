"""Fixtures for every test: both backends, and time that can jump.

`anyio_backend` runs each async test on asyncio and on trio. Tests that are about time ask for
`autojump_backend` by `pytest.mark.parametrize("anyio_backend", [AUTOJUMP])`: trio's clock jumps to
the next deadline as soon as every task waits, so a 10 s escalation takes milliseconds.
"""

from __future__ import annotations

import pytest
import structlog


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(autouse=True)
def quiet_structlog():
    """The engine's own log goes nowhere, and what a test configures ends with the test."""
    structlog.reset_defaults()
    structlog.configure(processors=[_drop])
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def _drop(logger, method, event):
    raise structlog.DropEvent
