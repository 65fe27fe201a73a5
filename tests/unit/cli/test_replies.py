"""Answers are read at any cut; requests are what a server reads."""

from __future__ import annotations

import itertools
import os

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdocker.errors import EngineUnreachable, UsageError
from mdocker.messages import ReplyReader, Request

bodies = st.binary(max_size=100)


@st.composite
def answers(draw):
    """One answer as the engine may send it, its status and its body."""
    status = draw(st.sampled_from([200, 201, 204, 304, 404, 500]))
    head = b"HTTP/1.1 %d Whatever\r\nApi-Version: 1.50\r\n" % status
    if draw(st.booleans()):
        head = b"HTTP/1.1 100 Continue\r\n\r\n" + head
    if status in (204, 304):
        return head + b"\r\n", status, b""
    body = draw(bodies)
    if draw(st.booleans()):
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, status, body
    coded = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n", status, body


@given(st.lists(answers(), min_size=1, max_size=3), st.lists(st.integers(0), max_size=20))
def test_answers_at_any_cut(sent, points):
    reader = ReplyReader()
    for data, status, body in sent:
        places = sorted({0, len(data), *(point % (len(data) + 1) for point in points)})
        replies = [
            reply
            for a, b in itertools.pairwise(places)
            if (reply := reader.feed(data[a:b])) is not None
        ]
        assert [(reply.status, reply.body) for reply in replies] == [(status, body)]
        assert reader.reusable


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"220 smtp ready\r\n\r\n", "garbled"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "garbled"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "garbled"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc", "too long"),
        (b"HTTP/1.1 204 OK\r\n\r\nHTTP", "too long"),
        (b"x" * 100_000, "garbled"),
    ],
)
def test_garbled(data, text):
    with pytest.raises(EngineUnreachable, match=text):
        ReplyReader().feed(data)


@pytest.mark.parametrize("body", [b"", b"until the end"])
def test_an_answer_that_ends_with_the_connection(body):
    reader = ReplyReader()
    assert reader.feed(b"HTTP/1.1 200 OK\r\n\r\n" + body) is None
    assert reader.feed(b"").body == body
    assert not reader.reusable


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
    ],
)
def test_an_end_in_the_middle(sent):
    reader = ReplyReader()
    if sent:
        assert reader.feed(sent) is None
    with pytest.raises(EngineUnreachable, match="in the middle of its answer"):
        reader.feed(b"")


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 204 OK\r\nConnection: close\r\n\r\n", b"HTTP/1.0 204 OK\r\n\r\n"]
)
def test_the_last_answer_of_a_connection(head):
    reader = ReplyReader()
    assert reader.feed(head).status == 204
    assert not reader.reusable


@given(st.sampled_from(["GET", "POST"]), st.text(), st.binary(max_size=50))
def test_requests_are_what_h11_reads(method, name, body):
    from mdocker.paths import container_path

    request = Request(method, container_path("x" + name, "stop"), body)
    server = h11.Connection(h11.SERVER)
    server.receive_data(request.spell())
    head = server.next_event()
    assert (head.method.decode(), head.target.decode()) == (method, request.path)
    received = b""
    while isinstance(event := server.next_event(), h11.Data):
        received += bytes(event.data)
    assert received == body
    assert isinstance(event, h11.EndOfMessage)


def test_text_that_json_can_not_hold_is_refused_by_name():
    """What the shell hands on as bytes comes as surrogates."""
    assert Request.make("POST", "/x", body={"Cmd": ["é\n"]}).body == '{"Cmd":["é\\n"]}'.encode()
    with pytest.raises(UsageError, match=r'"caf\\xe9" is no UTF-8'):
        Request.make("POST", "/x", body={"Cmd": ["echo", os.fsdecode(b"caf\xe9"), "x"]})
