"""The mark file: what a dead process leaves, and how little an idle container costs in it."""

import os

import pytest

from logs import marks
from logs.marks import GROUP_SIZE, PAGE, SLOTS_IN_GROUP, MarkFile, StreamMark

ID = "ab" * 32


def identity(number):
    return f"{number:064x}"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "marks"


def blocks(path):
    return os.stat(path).st_blocks * 512


def test_mark_outlives_its_process(path):
    file = MarkFile(path)
    slot = file.claim(ID, 7)
    slot.write(5, 100, 0, b"held out", 77)
    slot.write(6, 200, 1, b"held err", 0)
    file.begin(3, slot, 2)
    file.close()
    again = MarkFile(path)
    found = again.find(ID)
    assert found.read() == marks.Mark(
        6, 200, (StreamMark(b"held out", 77), StreamMark(b"held err"))
    )
    assert found.batch == 6
    note = again.note(3)
    assert (note.slot, note.stream) == (found.number, 2)
    assert again.begin(0, found, 1) > note.batch
    again.close()


def test_new_slot_says_how_long_the_log_is(path):
    file = MarkFile(path)
    assert file.claim(ID, 42).read().size == 42
    assert file.claim(ID, 99) is file.find(ID)
    file.close()


def test_torn_mark_leaves_the_old_one(path):
    """All that a mark stores but its last byte."""
    file = MarkFile(path)
    slot = file.claim(ID, 0)
    slot.write(1, 10, 0, b"old line", 0)
    valid = slot._map[slot._at]
    slot.write(2, 20, 0, b"new line, longer", 0)
    assert slot._map[slot._at] == valid ^ 1
    slot._map[slot._at] = valid
    assert slot.read() == marks.Mark(1, 10, (StreamMark(b"old line"), StreamMark()))
    file.close()


def test_what_was_lost_is_part_of_a_mark_and_stays_at_a_turn(path):
    file = MarkFile(path)
    slot = file.claim(ID, 0)
    assert slot.read().loss == marks.NO_LOSS
    slot.write(1, 10, 0, b"", 0, marks.Loss(9, 5, 4))
    slot.turn(10, 77, 2, 1)
    slot.turn(0, 78, 2, 1)
    file.close()
    again = MarkFile(path)
    assert again.find(ID).read().loss == (9, 5, 4)
    again.find(ID).release()
    assert again.claim(ID, 0).read().loss == marks.NO_LOSS
    again.close()


def test_longest_line_of_both_streams(path):
    file = MarkFile(path)
    first, second = file.claim(identity(1), 0), file.claim(identity(2), 0)
    for slot, fill in ((first, b"1"), (second, b"2")):
        for index in (0, 1):
            for turn in (b"x", b"y", fill):
                slot.write(1, 0, index, turn * marks.PIECE, 0)
    for slot, fill in ((first, b"1"), (second, b"2")):
        assert [state.held for state in slot.read().streams] == [fill * marks.PIECE] * 2
    file.close()


def test_idle_containers_cost_256_bytes_each(path):
    file = MarkFile(path)
    before = blocks(path)
    for number in range(10 * SLOTS_IN_GROUP):
        file.claim(identity(number), 0)
    indirect = PAGE  # some file systems need a block to list the others
    assert blocks(path) - before <= 10 * SLOTS_IN_GROUP * 256 + indirect
    file.close()


def test_released_slots_are_used_again_and_hold_nothing(path):
    file = MarkFile(path)
    slots = [file.claim(identity(number), 0) for number in range(SLOTS_IN_GROUP)]
    for slot in slots:
        slot.write(1, 1, 0, b"x" * 9000, 5)
        slot.write(2, 1, 0, b"x" * 9000, 5)
    full, size = blocks(path), os.stat(path).st_size
    for slot in slots:
        slot.release()
        slot.release()
    assert file.slots() == []
    assert blocks(path) < full
    for number in range(SLOTS_IN_GROUP):
        assert file.claim(identity(number), 3).read().streams == (StreamMark(), StreamMark())
    assert os.stat(path).st_size == size == PAGE + GROUP_SIZE
    file.close()


def test_released_slot_stays_released_for_the_next_process(path):
    file = MarkFile(path)
    file.claim(identity(1), 0).release()
    file.claim(identity(2), 0)
    file.close()
    again = MarkFile(path)
    assert [slot.container_id for slot in again.slots()] == [identity(2)]
    again.close()


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"mdocker-marks-1\n" + b"0" * 5000])
def test_file_of_another_boot_or_of_another_kind_is_begun_anew(path, content):
    path.write_bytes(content)
    file = MarkFile(path)
    assert file.slots() == []
    file.claim(ID, 1)
    file.close()


def test_short_ids_and_no_ids(path):
    file = MarkFile(path)
    file.claim("short", 0)
    file.close()
    file = MarkFile(path)
    assert file.find("short") is not None
    for bad in ("", "x" * 33, "é", "AB" * 32):
        with pytest.raises(ValueError, match="not a container id"):
            file.claim(bad, 0)
    file.close()


def test_no_room_for_a_line_is_told_and_not_fatal(path, monkeypatch):
    file = MarkFile(path)
    slot = file.claim(ID, 0)

    def refuse(fd, start, length):
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(marks.os, "posix_fallocate", refuse)
        slot.write(1, 10, 0, b"line", 0)
        assert file.full
        assert slot.read() == marks.Mark(1, 10, (StreamMark(), StreamMark()))
    slot.write(2, 20, 0, b"line", 0)
    assert not file.full
    assert slot.read().streams[0].held == b"line"
    file.close()
