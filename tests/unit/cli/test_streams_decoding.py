"""Chunks and frames come out whole wherever the socket cuts them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdocker.chunks import ChunkDecoder
from mdocker.errors import EngineUnreachable
from mdocker.frames import Demultiplexer
from tests.unit.cli.fake_engine import frame


def cut(data, points):
    """Split data at these points (any numbers)."""
    places = sorted({0, len(data), *(point % (len(data) + 1) for point in points)})
    return [memoryview(data)[a:b] for a, b in itertools.pairwise(places)]


def chunked(pieces, extension=b"", trailer=b""):
    coded = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    return coded + b"0\r\n" + trailer + b"\r\n"


points = st.lists(st.integers(min_value=0), max_size=40)
payloads = st.lists(st.binary(min_size=1, max_size=200), max_size=8)


@given(payloads, points, st.sampled_from([b"", b";a=b"]), st.sampled_from([b"", b"X-A: b\r\n"]))
def test_chunks_at_any_cut(pieces, places, extension, trailer):
    decoder = ChunkDecoder()
    out = b""
    for part in cut(chunked(pieces, extension, trailer), places):
        assert not decoder.done
        out += b"".join(bytes(view) for view in decoder.feed(part))
    assert out == b"".join(pieces)
    assert decoder.done


def test_chunks_byte_by_byte():
    data = chunked([b"hello", b"x" * 300])
    decoder = ChunkDecoder()
    views = [view for part in cut(data, range(len(data))) for view in decoder.feed(part)]
    assert b"".join(views) == b"hello" + b"x" * 300
    assert decoder.done


@pytest.mark.parametrize("data", [b"zz\r\n", b"-5\r\n", b"0x5\r\n", b"\r\n", b"2\r\nabc\r\n"])
def test_garbled_chunks(data):
    with pytest.raises(EngineUnreachable, match="garbled"):
        ChunkDecoder().feed(memoryview(data))


def test_endless_chunk_head():
    decoder = ChunkDecoder()
    with pytest.raises(EngineUnreachable, match="endless"):
        decoder.feed(memoryview(b"1" * 10_000))


frames = st.lists(st.tuples(st.sampled_from([0, 1, 2, 3]), st.binary(max_size=200)), max_size=10)


@given(frames, points)
def test_frames_at_any_cut(parts, places):
    demultiplexer = Demultiplexer()
    data = b"".join(frame(stream, payload) for stream, payload in parts)
    out = {1: b"", 2: b"", 3: b""}
    order = []
    for piece in cut(data, places):
        for stream, view in demultiplexer.feed(piece):
            assert len(view)
            out[stream] += bytes(view)
            order.append(stream)
    expected = {1: b"", 2: b"", 3: b""}
    for stream, payload in parts:
        expected[stream or 1] += payload
    assert out == expected
    assert demultiplexer.between_frames
    # What is written first comes out first, between the streams, too.
    wanted = [stream or 1 for stream, payload in parts if payload]
    squeezed = [s for at, s in enumerate(order) if at == 0 or order[at - 1] != s]
    assert squeezed == [s for at, s in enumerate(wanted) if at == 0 or wanted[at - 1] != s]


def test_a_frame_is_handed_on_before_it_is_whole():
    demultiplexer = Demultiplexer()
    head = frame(1, b"x" * 100)
    assert [bytes(view) for _, view in demultiplexer.feed(memoryview(head[:18]))] == [b"x" * 10]
    assert not demultiplexer.between_frames


@pytest.mark.parametrize("head", [b"\x05\0\0\0\0\0\0\1", b"\x01\0\1\0\0\0\0\1", b"hello, world"])
def test_garbled_frames(head):
    with pytest.raises(EngineUnreachable, match="garbled"):
        Demultiplexer().feed(memoryview(head))
