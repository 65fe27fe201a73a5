"""stdcopy frames, cut into pieces at every place."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logs import framing
from logs.framing import Demultiplexer, FramingError, Stream, frame, frame_lines

OUTPUTS = st.lists(st.tuples(st.sampled_from([Stream.STDOUT, Stream.STDERR]), st.binary()))


def joined(pairs):
    """Neighbours of one stream merged: a frame's borders mean nothing."""
    merged = []
    for stream, payload in pairs:
        if merged and merged[-1][0] is stream:
            merged[-1] = (stream, merged[-1][1] + payload)
        elif payload:
            merged.append((stream, payload))
    return merged


def test_header_is_docker_s():
    assert frame(Stream.STDERR, b"abc") == b"\x02\0\0\0\0\0\0\x03abc"


def test_empty_payload_makes_no_frame():
    assert frame(Stream.STDOUT, b"") == b""


@given(OUTPUTS)
def test_split_at_every_place(outputs):
    wire = b"".join(frame(stream, payload) for stream, payload in outputs)
    for cut in range(len(wire) + 1):
        demultiplexer = Demultiplexer()
        got = [*demultiplexer.feed(wire[:cut]), *demultiplexer.feed(wire[cut:])]
        assert joined(got) == joined(outputs)
        assert not demultiplexer.midway


@given(OUTPUTS)
def test_byte_by_byte(outputs):
    wire = b"".join(frame(stream, payload) for stream, payload in outputs)
    demultiplexer = Demultiplexer()
    got = [pair for byte in wire for pair in demultiplexer.feed(bytes([byte]))]
    assert joined(got) == joined(outputs)


def test_long_payload_becomes_several_frames(monkeypatch):
    monkeypatch.setattr(framing, "MAX_PAYLOAD", 4)
    wire = frame(Stream.STDOUT, b"abcdefghi")
    assert len(wire) == 9 + 3 * framing.HEADER_SIZE
    assert joined(Demultiplexer().feed(wire)) == [(Stream.STDOUT, b"abcdefghi")]


def test_broken_off_is_noticed():
    demultiplexer = Demultiplexer()
    list(demultiplexer.feed(frame(Stream.STDOUT, b"abc")[:-1]))
    assert demultiplexer.midway


@pytest.mark.parametrize(
    "header", [b"\x04\0\0\0\0\0\0\x01", b"\x01\0\0\x01\0\0\0\x01", b"HTTP/1.1"]
)
def test_no_frames(header):
    with pytest.raises(FramingError, match="not a stdcopy frame header"):
        list(Demultiplexer().feed(header))


@given(st.binary(max_size=60) | st.lists(st.sampled_from([b"a", b"\n", b"bc"])).map(b"".join))
def test_each_line_in_a_frame_of_its_own(text):
    framed = frame_lines(Stream.STDERR, text)
    assert list(Demultiplexer().feed(framed)) == [
        (Stream.STDERR, line) for line in re.findall(rb"[^\n]*\n|[^\n]+", text)
    ]


def test_long_lines_have_heads_too():
    text = b"x" * 70_000 + b"\n" + b"y" * 4095 + b"\n" + b"z" * 2_000_000
    found = [data for _, data in Demultiplexer().feed(frame_lines(Stream.STDOUT, text))]
    assert b"".join(found) == text
    assert [len(data) for data in found[:2]] == [70_001, 4096]
