"""Who comes in the middle gets each byte once: from the log up to there, and live from there on."""

import threading
from types import SimpleNamespace

import pytest

from logs import background
from logs.drivers import Stream, open_log
from logs.reader import read
from logs.spots import START, Spot
from supervisor import feeds
from supervisor.feeds import Feeds

ID = "ab" * 32


class Listener:
    """An attachment that keeps what it is fed."""

    def __init__(self):
        self.got = {1: b"", 2: b""}

    def feed(self, stream, data):
        self.got[stream] += data


def demultiplexed(chunks):
    from logs.framing import Demultiplexer

    found = {1: b"", 2: b""}
    taken = Demultiplexer()
    for chunk in chunks:
        for stream, data in taken.feed(chunk):
            found[int(stream)] += data
    return found


@pytest.mark.parametrize("options", [{}, {"max-size": "20k", "max-file": "500"}])
def test_whenever_somebody_comes_the_parts_fit_together(tmp_path, options):
    log = open_log("json-file", tmp_path, ID, options)
    container = SimpleNamespace(attachments=[])
    mine = Feeds(container, log)
    streams = {1: log.stream(Stream.STDOUT), 2: log.stream(Stream.STDERR)}
    whole = {1: b"", 2: b""}
    seen = threading.Event()

    def pump():
        for number in range(3000):
            # Batches end within lines, and each stream has its own.
            for stream in (1, 2):
                data = b"%d of %d\nbegun %d " % (stream, number, number)
                whole[stream] += data
                streams[stream].append(data)
                for feed in mine:
                    feed(stream, data)
            if number == 20:
                seen.set()

    thread = threading.Thread(target=pump)
    thread.start()
    seen.wait(10)
    came = []
    while thread.is_alive():
        listener = Listener()
        fed = mine.join(listener)
        past = read(log.path, "json-file", framed=True, log=log, begin=START, upto=fed[:2])
        came.append((listener, fed, past))
        thread.join(0.01)
    assert came
    thread.join()
    for listener, fed, past in came[:50]:
        found = demultiplexed(past)
        for stream, begun in ((1, fed.out), (2, fed.err)):
            assert found[stream] + begun + listener.got[stream] == whole[stream]
    log.close()
    background.join()


def test_the_word_for_a_place_counts_what_is_begun(tmp_path):
    log = open_log("json-file", tmp_path, ID)
    container = SimpleNamespace(attachments=[], run=SimpleNamespace(log=log, feeds=None))
    assert feeds.place(container) is None
    assert feeds.join(container, Listener()).word() == b"0-0-0.0.0"
    container.run.feeds = mine = Feeds(container, log)
    log.stream(Stream.STDOUT).append(b"whole\nbegun")
    log.stream(Stream.STDERR).append(b"err")
    iter(mine)
    word = feeds.place(container).decode()
    spot, out, err = word.split(".")
    assert (out, err) == ("5", "3")
    assert Spot.read(spot).offset == log.size
    log.close()


def test_where_no_log_is_kept_there_are_no_places(tmp_path):
    log = open_log("none", tmp_path, ID)
    container = SimpleNamespace(attachments=[], run=SimpleNamespace(log=log, feeds=None))
    container.run.feeds = Feeds(container, log)
    listener = Listener()
    assert feeds.join(container, listener) is None
    for feed in container.run.feeds:
        feed(1, b"x")
    assert listener.got[1] == b"x"
    assert feeds.place(container) is None


def test_before_it_runs_nothing_came_before(tmp_path):
    container = SimpleNamespace(attachments=[], run=None)
    listener = Listener()
    assert feeds.join(container, listener) is None
    assert container.attachments == [listener]
