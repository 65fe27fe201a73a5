"""Places in a log: found again after rotation, compression and death, and nowhere else."""

import itertools
import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logs import background
from logs.drivers import Stream, open_log
from logs.follow import follow
from logs.history import parts_of
from logs.reader import read
from logs.spots import START, Spot, find, spot_at

ID = "ab" * 32

OPTIONS = [
    {"max-size": "1m"},
    {"max-size": "2k", "max-file": "100"},
    {"max-size": "2k", "max-file": "100", "compress": "true"},
    {"max-size": "2k", "max-file": "1"},
]


def lines(first, last):
    return b"".join(b"line %d\n" % number for number in range(first, last))


def write(directory, driver, options, first, last, each=1):
    """One run of a container prints lines; the log is left as a dead process leaves it."""
    log = open_log(driver, directory, ID, options)
    out = log.stream(Stream.STDOUT)
    for number in range(first, last, each):
        out.append(lines(number, min(number + each, last)))
    log.detach()
    background.join()
    return log.path


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["json-file", "k8s-file"]),
    st.sampled_from(OPTIONS),
    st.integers(0, 120),
    st.integers(0, 120),
    st.integers(0, 6),
    st.integers(100, 3000),
)
def test_a_reader_goes_on_behind_its_place(
    tmp_path_factory, driver, options, before, after, chunks, block_size
):
    directory = tmp_path_factory.mktemp("log")
    try:
        path = write(directory, driver, options, 0, before)
        first = read(path, driver, block_size=block_size)
        shown = b"".join(itertools.islice(first, chunks))
        spot = Spot.read(first.spot.spell())
        write(directory, driver, options, before, before + after, each=3)
        second = read(path, driver, begin=spot)
        rest = b"".join(second)
        whole = lines(0, before + after)
        if second.missed or options.get("max-file") == "1":
            # What is left is the end, and nothing of it was shown already.
            assert whole.endswith(rest)
        else:
            assert shown + rest == whole
        if options.get("max-file") != "1":
            assert not second.missed
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize("options", OPTIONS[:3], ids=["one file", "rotated", "compressed"])
@pytest.mark.anyio
async def test_a_follower_goes_on_behind_its_place(tmp_path, options):
    log = open_log("json-file", tmp_path, ID, options)
    out = log.stream(Stream.STDOUT)
    out.append(lines(0, 10))
    follower = follow(log)
    shown = await anext(follower)
    spot = follower.spot
    out.append(lines(10, 200))
    log.detach()
    background.join()
    other = open_log("json-file", tmp_path, ID, options)
    again = follow(other, begin=spot)
    other.stream(Stream.STDOUT).append(lines(200, 210))
    other.close()
    rest = b"".join([chunk async for chunk in again])
    assert not again.missed
    assert shown + rest == lines(0, 210)
    background.join()


def test_a_place_that_was_rotated_away_is_told(tmp_path):
    options = OPTIONS[3]
    path = write(tmp_path, "json-file", options, 0, 10)
    place = read(path, "json-file")
    list(place)
    write(tmp_path, "json-file", options, 10, 200)
    again = read(path, "json-file", begin=place.spot)
    rest = b"".join(again)
    assert again.missed
    assert lines(0, 200).endswith(rest)


def test_the_same_offset_of_another_file_is_another_place(tmp_path):
    """Two files whose records have the same lengths: only their times differ."""
    path = write(tmp_path, "json-file", OPTIONS[0], 0, 20)
    parts = parts_of(path)
    spot = spot_at(parts, 0, parts[0].end)
    os.rename(path, path + ".away")
    write(tmp_path, "json-file", OPTIONS[0], 0, 30)
    assert find(parts_of(path), spot) is None
    os.rename(path + ".away", path + ".1")
    assert find(parts_of(path), spot) == (0, spot.offset)


def test_the_beginning_is_a_place_before_there_is_a_log(tmp_path):
    path = write(tmp_path, "json-file", OPTIONS[0], 0, 3)
    assert b"".join(read(path, "json-file", begin=START)) == lines(0, 3)
    assert Spot.read(START.spell()) == START


@pytest.mark.parametrize(
    "word", ["", "5", "5-6", "-1-2-3", "5-6-xyz", "5-6-7-8", "1" * 30 + "-1-1"]
)
def test_what_is_no_place(word):
    with pytest.raises(ValueError, match="no place"):
        Spot.read(word)
