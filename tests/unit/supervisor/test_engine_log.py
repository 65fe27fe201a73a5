"""The engine's own log must never be what the engine fails on."""

import io

import pytest
import structlog

from supervisor import engine_log


@pytest.fixture(autouse=True)
def configuration():
    before = structlog.get_config()
    yield
    structlog.configure(**before)


class Full(io.StringIO):
    """A disk without room: every write and flush is refused."""

    def write(self, text):
        raise OSError(28, "No space left on device")

    def flush(self):
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_does_not_stop_who_logs():
    engine_log.set_up(debug=False, stream=Full())
    structlog.get_logger().error("something", detail="of note")


def test_what_can_be_written_is():
    stream = io.StringIO()
    engine_log.set_up(debug=False, stream=stream)
    structlog.get_logger().info("something", detail="of note")
    assert '"detail": "of note"' in stream.getvalue()
