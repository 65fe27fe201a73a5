"""Timelines: bounded, in order, every phase that was opened gets an end; laps; signals."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from supervisor import phases
from supervisor.phases import MOST, Laps, Phase, Timeline, closed, ended, signalled

NAMES = st.sampled_from(["start", "run", "stop", "stop.term", "signal"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), NAMES),
        st.tuples(st.just("end"), NAMES),
        st.tuples(st.just("moment"), NAMES),
        st.tuples(st.just("add"), NAMES),
        st.tuples(st.just("end all"), NAMES),
    ),
    max_size=200,
)


@given(STEPS)
def test_whatever_happens_it_is_bounded_and_knows_its_beginning(steps):
    timeline = Timeline().add(Phase("create", 1, 2))
    noted = 1
    for now, (what, name) in enumerate(steps, start=3):
        before = timeline
        if what == "open":
            timeline = timeline.open(name, now)
        elif what == "end":
            timeline = timeline.end(now, name)
            assert all(phase.name != name for phase in timeline.under_way)
        elif what == "moment":
            timeline = timeline.moment(name, now)
        elif what == "add":
            timeline = timeline.add(Phase(name, now, now + 1))
        else:
            timeline = timeline.end(now)
            assert timeline.under_way == ()
        noted += what in ("open", "add") or (what == "moment" and timeline.phases[-1].count == 1)
        assert len(timeline.phases) <= MOST
        assert timeline.phases[0] == Phase("create", 1, 2)
        assert timeline.forgotten + len(timeline.phases) == noted
        for phase in closed(before, timeline):
            assert phase in timeline.phases
            assert phase.ended_ns == now
    assert msgspec.json.decode(msgspec.json.encode(timeline), type=Timeline) == timeline


def test_the_same_moment_again_only_counts():
    timeline = Timeline()
    for at in (10, 20, 30):
        timeline = timeline.moment("signal", at, "SIGUSR1")
    timeline = timeline.moment("signal", 40, "SIGHUP")
    assert [(one.note, one.began_ns, one.ended_ns, one.count) for one in timeline.phases] == [
        ("SIGUSR1", 10, 30, 3),
        ("SIGHUP", 40, 40, 1),
    ]


def test_a_clock_that_is_set_back_makes_no_negative_durations():
    timeline = Timeline().open("run", 1000).end(400)
    assert timeline.phases == (Phase("run", 1000, 1000),)
    assert timeline.phases[0].seconds == 0
    assert Phase("run", 1000).seconds == 0


def test_laps_add_up_to_their_phase_and_short_ones_go_to_the_next(monkeypatch):
    clock = iter([1000, 1010, 3000, 9000])
    monkeypatch.setattr(phases.time, "time_ns", lambda: next(clock))
    laps = Laps("start")
    laps.lap("wait", least_ns=100)
    laps.lap("prepare")
    laps.lap("spawn")
    assert laps.done() == (
        Phase("start", 1000, 9000),
        Phase("start.prepare", 1000, 3000),
        Phase("start.spawn", 3000, 9000),
    )


def test_a_phase_that_fails_ends_when_it_fails(monkeypatch):
    clock = iter([1000, 2000, 7000])
    monkeypatch.setattr(phases.time, "time_ns", lambda: next(clock))
    laps = Laps("start")
    laps.lap("prepare")
    assert laps.done("failed")[0] == Phase("start", 1000, 7000, "failed")


def names(timeline):
    return [(phase.name, phase.note, bool(phase.ended_ns)) for phase in timeline.phases]


def test_a_stop_that_has_to_kill():
    timeline = Timeline().open("run", 1)
    timeline = signalled(timeline, 15, stopping=True)
    assert names(timeline)[1:] == [("stop", "SIGTERM", False), ("stop.term", "SIGTERM", False)]
    timeline = signalled(timeline, 9, stopping=True)
    assert names(timeline)[1:] == [
        ("stop", "SIGTERM", False),
        ("stop.term", "SIGTERM", True),
        ("stop.kill", "SIGKILL", False),
    ]
    over = ended(timeline, phases.time.time_ns(), "SIGKILL")
    assert over.under_way == ()
    assert over.phases[0].note == "SIGKILL"
    assert {phase.name for phase in closed(timeline, over)} == {"run", "stop", "stop.kill"}


def test_a_kill_that_finds_no_stop_on_record_begins_one():
    """The supervisor that began the stop died before it could write that down."""
    timeline = signalled(Timeline(), 9, stopping=True)
    assert names(timeline) == [("stop", "SIGKILL", False), ("stop.kill", "SIGKILL", False)]


def test_what_was_noted_before_the_signal_is_not_noted_twice():
    for number in (15, 9):
        before = signalled(Timeline(), number, stopping=True)
        assert signalled(before, number, stopping=True) == before


def test_a_kill_is_a_moment():
    assert names(signalled(Timeline(), 40, stopping=False)) == [("signal", "signal 40", True)]


def test_output_that_goes_on_after_the_end_is_told_apart(monkeypatch):
    now = phases.time.time_ns()
    monkeypatch.setattr(phases.time, "time_ns", lambda: now)
    quick = ended(Timeline().open("run", 1), now, "exit 0")
    slow = ended(Timeline().open("run", 1), now - 5_000_000_000, "exit 0")
    assert [phase.name for phase in quick.phases] == ["run"]
    assert [phase.name for phase in slow.phases] == ["run", "drain"]
    assert slow.phases[1].seconds >= 5
