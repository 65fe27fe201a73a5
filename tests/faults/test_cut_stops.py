"""A supervisor that dies in the middle of a stop leaves the rest of it to the next one."""

from __future__ import annotations

import time
from urllib.parse import quote

import msgspec

from supervisor import store
from supervisor.stop import pending
from tests.real.engine_process import UnixConnection

COUNTS = (
    "n=0; trap 'n=$((n+1)); echo told $n' TERM; echo up; "
    "while [ $n -lt {enough} ]; do sleep 1000 & wait; done; exit 3"
)


def in_a_stop(engine, container, *, sent, timeout_s):
    """Let the supervisor have died after it had put the stop on record."""
    engine.kill()
    directory = engine.root / "containers" / container
    found = store.load(directory)
    stop = msgspec.structs.replace(pending(15, timeout_s), sent=sent)
    found.life = msgspec.structs.replace(found.life, stopping=stop, stopped_by_request=True)
    store.save(directory, found)
    began = time.monotonic()
    engine.start()
    code = engine.wait(container)
    return code, time.monotonic() - began


def up(engine, enough):
    container = engine.run("sh", "-c", COUNTS.format(enough=enough))
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        assert logs.read(11) == b"\x01\0\0\0\0\0\0\x03up\n"
    return container


def test_a_stop_signal_that_was_not_sent_yet_is_sent(fresh_engine):
    """Found by the soak: killed between record and signal, it was never told, then killed."""
    container = up(fresh_engine, 1)
    code, _ = in_a_stop(fresh_engine, container, sent=False, timeout_s=25)
    assert code == 3
    assert fresh_engine.output(container)[0] == b"up\ntold 1\n"


def test_a_stop_signal_that_was_sent_is_not_sent_again(fresh_engine):
    """To many programs a second one means: at once, never mind the data."""
    container = up(fresh_engine, 1)
    code, took_s = in_a_stop(fresh_engine, container, sent=True, timeout_s=2)
    assert code == 137
    assert took_s < 20
    assert fresh_engine.output(container)[0] == b"up\n"


def test_what_has_been_sent_is_on_record(fresh_engine):
    """The event follows the record; what the container prints of the signal may well precede it."""
    container = up(fresh_engine, 2)
    filters = quote('{"event":["kill"]}')
    with (
        fresh_engine.stream("GET", f"/events?since=1&filters={filters}") as events,
        fresh_engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs,
    ):
        logs.read(11)
        asking = UnixConnection(fresh_engine.socket)
        try:
            asking.request("POST", f"/v1.50/containers/{container}/stop?t=30")
            assert logs.read(8 + 7)[8:] == b"told 1\n"
            assert events.readline()
            fresh_engine.kill()
        finally:
            asking.close()
    life = store.load(fresh_engine.root / "containers" / container).life
    assert life.stopping is not None
    assert life.stopping.sent
    fresh_engine.start()
    assert fresh_engine.post(f"/containers/{container}/kill?signal=TERM").status == 204
    assert fresh_engine.wait(container) == 3
    assert fresh_engine.output(container)[0] == b"up\ntold 1\ntold 2\n"
