"""The talk between supervisor and shim: what one side encodes the other decodes, or refuses."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import shim_protocol as protocol

MESSAGES = [
    protocol.Spawn("c", 0, 1, 2, 3, 4, 5, ()),
    protocol.Spawn("c", 0, 1, 2, 3, 4, 5, (6, 7)),
    protocol.CloseStdin("c"),
    protocol.Forget("c"),
    protocol.Hold("stage", (0, 1)),
    protocol.Hold("stage", ()),
    protocol.Adopt(),
    protocol.Quit(),
    protocol.Spawned("c", 17, 12345, 0),
    protocol.SpawnRefused("c", 24, 'too many open files: "x"\n\x00é\ud800'),
    protocol.Exited("c", 17, 139, 1_795_296_302_138_006_751),
    protocol.Adopted("c", 17, 12345, None, 0, (0, 1, 2)),
    protocol.Adopted("c", 17, 12345, 9, 5, (1, 2)),
    protocol.Held("stage", (2, 3)),
    protocol.AdoptEnd(3, 77, "c0de"),
    protocol.Successor(1, 2, (3, 4)),
    protocol.Successor(1, 2, ()),
    protocol.Farewell(),
    protocol.HandOver("c1", 12, 34, None, 0, (1, 2, 3)),
    protocol.HandOver("c1", 12, 34, 256, 99, ()),
]


@pytest.fixture
def pair():
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ends
    for end in ends:
        end.close()


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_decoding_gives_what_was_encoded(message):
    packet, fds = protocol.encode(message)
    assert protocol.decode(packet, fds) == message
    assert packet.isascii()


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_descriptors_arrive_as_duplicates(pair, message):
    fds = message.descriptors()
    protocol.send(pair[0], message)
    received = protocol.receive(pair[1])
    assert type(received) is type(message)
    assert len(received.descriptors()) == len(fds)
    for theirs, ours in zip(received.descriptors(), fds, strict=True):
        assert os.path.sameopenfile(theirs, ours)
        assert not os.get_inheritable(theirs)
        os.close(theirs)


@given(st.text(), st.integers(), st.integers(0, 2**63))
def test_any_text_and_number_survives(name, status, time_ns):
    message = protocol.Exited(name, 1, status, time_ns)
    packet, fds = protocol.encode(message)
    assert protocol.decode(packet, fds) == message
    assert json.loads(packet)["id"] == name


@given(st.binary(max_size=200))
def test_garbage_is_a_fault_and_nothing_else(packet):
    with pytest.raises(protocol.ProtocolFault):
        protocol.decode(packet, [])


@pytest.mark.parametrize(
    "packet",
    [
        b'{"t":"Spawned","n":0,"id":"c","pid":1,"start_ticks":1}',  # its descriptor is missing
        b'{"t":"Forget","n":0}',
        b'{"t":"Forget","n":0,"id":"c","more":1}',
        b'{"t":"Forget","n":1,"id":"c"}',
        b'{"t":"Nothing","n":0}',
        b'{"n":0,"id":"c"}',
        b'[{"t":"Adopt","n":0}]',
        b'{"t":"Adopt","n":0} ',
        b'{"t":["Adopt"],"n":0}',
    ],
)
def test_what_is_nearly_a_message_is_refused(packet):
    with pytest.raises(protocol.ProtocolFault):
        protocol.decode(packet, [])


def test_a_refused_packet_s_descriptors_are_closed(pair):
    before = len(os.listdir("/proc/self/fd"))
    protocol.send_packet(pair[0], b"nonsense", [0, 1, 2])
    with pytest.raises(protocol.ProtocolFault):
        protocol.receive(pair[1])
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_end_of_the_connection_is_none(pair):
    pair[0].close()
    assert protocol.receive(pair[1]) is None


def test_nothing_there_is_would_block(pair):
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        protocol.receive(pair[1])


def test_a_full_socket_is_would_block_and_sends_nothing(pair):
    pair[0].setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            protocol.send(pair[0], protocol.Forget(str(sent)))
            sent += 1
    for number in range(sent):
        assert protocol.receive(pair[1]) == protocol.Forget(str(number))


@pytest.mark.parametrize(
    "message", [protocol.Spawn("c", 0, 1, 2, 0, 1, 2, ()), protocol.Exec("e", "c", 0, 1, 2, 0, ())]
)
def test_out_of_descriptors_is_told_with_what_it_was_for_and_leaks_none(pair, message):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = {int(fd) for fd in os.listdir("/proc/self/fd")}
    protocol.send(pair[0], message)
    room = min(set(range(max(open_now) + 2)) - open_now)
    resource.setrlimit(resource.RLIMIT_NOFILE, (room + 1, hard))
    try:
        with pytest.raises(protocol.FdsLost) as lost:
            protocol.receive(pair[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert lost.value.errno == errno.EMFILE
    assert (lost.value.message_type, lost.value.message_id) == (message.TYPE, message.id)
    assert len(os.listdir("/proc/self/fd")) == len(open_now)


def test_messages_are_values():
    message = protocol.Forget("c")
    assert message == protocol.Forget(id="c")
    assert message != protocol.Forget("d")
    assert len({message, protocol.Forget("c")}) == 1
    assert repr(message) == "Forget(id='c')"
    with pytest.raises(AttributeError, match="can't be changed"):
        message.id = "d"


@pytest.mark.parametrize(
    ("values", "named"), [((), {}), (("a", "b"), {}), (("a",), {"id": "b"}), ((), {"no": 1})]
)
def test_wrong_fields_are_refused(values, named):
    with pytest.raises(TypeError, match="Forget takes"):
        protocol.Forget(*values, **named)
