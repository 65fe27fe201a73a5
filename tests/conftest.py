"""Fixtures for every test: both backends, and time that can jump.

`anyio_backend` runs each async test on asyncio and on trio. Tests that are about time ask for
`autojump_backend` by `pytest.mark.parametrize("anyio_backend", [AUTOJUMP])`: trio's clock jumps to
the next deadline as soon as every task waits, so a 10 s escalation takes milliseconds.
"""

from __future__ import annotations

import signal

import pytest
import structlog
from hypothesis import HealthCheck, settings

# A machine that is busy with something else is no failure.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_configure():
    """Told to end (by timeout(1), by CI) we end as by Ctrl-C: fixtures take down their engines."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


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
