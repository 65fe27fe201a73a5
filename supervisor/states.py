"""The life of a container as one table.

    created ──start──▶ running ──exit──▶ exited ──start──▶ running …
       │                  │  ▲              │
       │             pause│  │unpause       │
       │                  ▼  │              │
       │                paused ──exit──▶ exited
       │
       │   running, paused ──await-restart──▶ restarting ──start──▶ running
       │   (exited: after a reboot)             │  ▲  └──give-up──▶ exited
       │                                        └──┘ await-restart: an attempt has failed
       └──────────────remove────────────────┴──▶ removing ──removed──▶ gone
                                                   │    ▲
                                               fail│    │remove
                                                   ▼    │
                                                   dead─┘

Every change of state goes through `after`. It is pure: an event that the table does not allow
raises `IllegalTransition`, and nothing happens.
"""

from __future__ import annotations

import enum


class State(enum.StrEnum):
    """Where a container is in its life; the values are the Engine API's words."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    REMOVING = "removing"
    DEAD = "dead"
    GONE = "gone"


class Event(enum.StrEnum):
    """What can happen to a container."""

    START = "start"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    EXIT = "exit"
    AWAIT_RESTART = "await-restart"
    GIVE_UP = "give-up"
    REMOVE = "remove"
    REMOVE_FAILED = "remove-failed"
    REMOVED = "removed"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.CREATED, Event.START): State.RUNNING,
    (State.CREATED, Event.REMOVE): State.REMOVING,
    (State.RUNNING, Event.PAUSE): State.PAUSED,
    (State.RUNNING, Event.EXIT): State.EXITED,
    (State.RUNNING, Event.AWAIT_RESTART): State.RESTARTING,
    (State.PAUSED, Event.UNPAUSE): State.RUNNING,
    (State.PAUSED, Event.EXIT): State.EXITED,
    (State.PAUSED, Event.AWAIT_RESTART): State.RESTARTING,
    (State.RESTARTING, Event.START): State.RUNNING,
    (State.RESTARTING, Event.AWAIT_RESTART): State.RESTARTING,
    (State.RESTARTING, Event.GIVE_UP): State.EXITED,
    (State.EXITED, Event.START): State.RUNNING,
    (State.EXITED, Event.AWAIT_RESTART): State.RESTARTING,
    (State.EXITED, Event.REMOVE): State.REMOVING,
    (State.DEAD, Event.REMOVE): State.REMOVING,
    (State.REMOVING, Event.REMOVE_FAILED): State.DEAD,
    (State.REMOVING, Event.REMOVED): State.GONE,
}

ALIVE = frozenset({State.RUNNING, State.PAUSED})
"""The states in which a container has a process."""

ACTIVE = ALIVE | {State.RESTARTING}
"""The states in which a container has a process, or will have one again by itself: those that
Docker calls running."""


class IllegalTransition(Exception):
    """An event arrived in a state in which the table does not allow it.

    Attributes:
        state: The state the container is in (and stays in).
        event: What was asked of it.
    """

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"cannot {event} a container that is {state}")
        self.state = state
        self.event = event


def after(state: State, event: Event) -> State:
    """Return the state that follows.

    Raises:
        IllegalTransition: The table has no such row.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None


def allows(state: State, event: Event) -> bool:
    """Tell whether the table has a row for this event."""
    return (state, event) in TRANSITIONS
