"""What a killed supervisor did not publish, the next one does: once, and nothing else."""

import pytest

from supervisor import missed_events
from supervisor.container import Container, ContainerConfig, Life
from supervisor.events import EventBus
from supervisor.states import State

ID = "ab" * 32


def container(state, *, created_ns=1, **life):
    config = ContainerConfig(image="host", image_id="sha256:00", labels={"k": "v"})
    return Container(ID, "finch", config, created_ns, Life(state=state, **life))


def published(history, containers, gone=True):
    bus = EventBus()
    bus.publish("container", "create", "another", {})
    for action in history:
        bus.publish("container", action, ID, {"name": "finch", "k": "v", "exitCode": "1"})
    before = len(bus.past())
    missed_events.publish(bus, containers, lambda id: gone and id != "another")
    again = len(bus.past())
    missed_events.publish(bus, containers, lambda id: gone and id != "another")
    assert len(bus.past()) == again, "a second look finds nothing more"
    return [(event.action, event.attributes) for event in bus.past()[before:]]


TOLD = {"k": "v", "image": "host", "name": "finch"}


@pytest.mark.parametrize(
    ("history", "found", "missing"),
    [
        ([], container(State.CREATED, created_ns=2**62), [("create", TOLD)]),
        ([], container(State.CREATED, created_ns=1), []),
        ([], container(State.EXITED, created_ns=1, finished_ns=5), []),
        (["create"], container(State.CREATED), []),
        (["create"], container(State.RUNNING), [("start", TOLD)]),
        (["create", "start"], container(State.RUNNING), []),
        (["create", "start"], container(State.PAUSED), []),
        (
            ["create", "start"],
            container(State.EXITED, finished_ns=5, exit_code=7),
            [("die", TOLD | {"exitCode": "7"})],
        ),
        (
            ["create", "start"],
            container(State.RESTARTING, finished_ns=5, exit_code=7),
            [("die", TOLD | {"exitCode": "7"})],
        ),
        (["create", "start", "die"], container(State.EXITED, finished_ns=5), []),
        (["create", "start", "die"], container(State.RUNNING), [("start", TOLD)]),
        (["create", "start", "kill"], container(State.RUNNING), []),
    ],
)
def test_at_most_one_event_is_missing(history, found, missing):
    assert published(history, [found]) == missing


def test_a_removal_that_nobody_was_told_of():
    assert published(["create", "start", "die"], []) == [("destroy", {"name": "finch", "k": "v"})]
    assert published(["create", "start", "die"], [], gone=False) == []
    assert published(["create", "destroy"], []) == []


def test_a_history_that_a_reboot_has_emptied_misses_nothing():
    bus = EventBus()
    missed_events.publish(bus, [container(State.EXITED, finished_ns=5)], lambda id: True)
    missed_events.publish(bus, [container(State.CREATED, created_ns=2**62)], lambda id: True)
    assert bus.past() == []
