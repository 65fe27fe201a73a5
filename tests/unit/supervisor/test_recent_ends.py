"""How containers ended, after they are gone and after a supervisor's death."""

from supervisor import recent_ends
from supervisor.journal import Journal
from supervisor.recent_ends import RecentEnd, RecentEnds

BIRD = "b1" * 32
FISH = "b1" * 16 + "f1" * 16


def test_the_first_end_after_a_moment_is_the_one_that_was_waited_for():
    ends = RecentEnds()
    for code, when in ((1, 10), (2, 20), (3, 30)):
        ends.note(BIRD, code, when)
    assert ends.since(BIRD, 10).code == 2
    assert ends.since(BIRD, 30) is None
    assert ends.since(FISH, 0) is None


def test_a_removed_container_is_known_by_its_id_or_a_clear_beginning_of_it():
    ends = RecentEnds()
    ends.note(BIRD, 1, 10)
    ends.note(BIRD, 2, 20)
    ends.note(FISH, 3, 30)
    assert ends.last(BIRD).code == 2
    assert ends.last(BIRD[:40]).code == 2
    assert ends.last(BIRD[:12]) is None  # the fish begins like this, too
    assert ends.last(BIRD[:6]) is None
    assert ends.last("") is None


def test_ends_outlive_the_process(tmp_path):
    before = RecentEnds(Journal(tmp_path / "ends", RecentEnd))
    before.note(BIRD, 7, 10, "not seen")
    after = RecentEnds(Journal(tmp_path / "ends", RecentEnd))
    after.note(FISH, 8, 20)
    assert after.last(BIRD) == RecentEnd(BIRD, 7, 10, "not seen")
    after.note(FISH, 9, 30)
    assert [after.last(FISH).code, after.since(FISH, 0).code] == [9, 8]


def test_it_is_bounded(monkeypatch):
    monkeypatch.setattr(recent_ends, "REMEMBERED", 3)
    ends = RecentEnds()
    for number in range(5):
        ends.note(f"{number:064}", number, number)
    assert ends.last(f"{1:064}") is None
    assert [ends.last(f"{n:064}").code for n in (2, 3, 4)] == [2, 3, 4]


def test_an_end_that_no_disk_takes_is_remembered_all_the_same(tmp_path):
    ends = RecentEnds(Journal(tmp_path / "nowhere" / "ends", RecentEnd))
    ends.note(BIRD, 7, 10)
    assert ends.last(BIRD).code == 7


def test_one_that_crashes_all_the_time_crowds_out_nobody(tmp_path):
    ends = RecentEnds(Journal(tmp_path / "ends", RecentEnd, 200))
    ends.note(FISH, 8, 1)
    for number in range(5000):
        ends.note(BIRD, number % 100, 10 + number)
    ends.note_last(BIRD, 42, 9000)
    for memory in (ends, RecentEnds(Journal(tmp_path / "ends", RecentEnd, 200))):
        assert memory.last(FISH).code == 8
        assert memory.last(BIRD).code == 42
    ends.note_last(FISH, 9, 9001)
    assert [end.code for end in ends._by_id[FISH]] == [8]
