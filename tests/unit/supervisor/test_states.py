"""The lifecycle table: its full product, and random walks that keep the invariants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.states import ALIVE, TRANSITIONS, Event, IllegalTransition, State, after, allows


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_pair_is_either_in_the_table_or_refused(state, event):
    if (state, event) in TRANSITIONS:
        assert after(state, event) is TRANSITIONS[state, event]
        assert allows(state, event)
    else:
        assert not allows(state, event)
        with pytest.raises(IllegalTransition) as caught:
            after(state, event)
        assert (caught.value.state, caught.value.event) == (state, event)
        assert str(state) in str(caught.value)
        assert str(event) in str(caught.value)


def test_what_is_gone_stays_gone():
    assert not any(allows(State.GONE, event) for event in Event)


def test_a_living_container_can_never_be_removed():
    assert not any(allows(state, Event.REMOVE) for state in ALIVE)


def test_every_state_can_be_reached_and_all_but_gone_can_be_left():
    reached, frontier = {State.CREATED}, [State.CREATED]
    while frontier:
        state = frontier.pop()
        for event in Event:
            if allows(state, event) and (new := after(state, event)) not in reached:
                reached.add(new)
                frontier.append(new)
    assert reached == set(State)
    assert {s for s in State if not any(allows(s, e) for e in Event)} == {State.GONE}


@given(st.lists(st.sampled_from(Event), max_size=60))
def test_a_process_exists_only_between_a_start_and_an_exit(walk):
    state, process = State.CREATED, False
    for event in walk:
        if not allows(state, event):
            continue
        state = after(state, event)
        if event is Event.START:
            process = True
        elif event in (Event.EXIT, Event.AWAIT_RESTART):
            process = False
        assert (state in ALIVE) == process
