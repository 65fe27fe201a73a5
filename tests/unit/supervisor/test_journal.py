"""The journal: bounded, whole after any kill, and harmless where the disk refuses it."""

import os

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.journal import Journal


class Entry(msgspec.Struct):
    number: int


def numbers(journal):
    return [entry.number for entry in journal.read()]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 12), max_size=8),
    st.integers(1, 5),
    st.binary(max_size=12).filter(lambda data: b"\n" not in data),
)
def test_each_process_goes_on_behind_the_last_and_the_newest_stay(
    tmp_path_factory, runs, keep, tail
):
    """Several processes in a row; a kill leaves half a line behind each of them."""
    path = tmp_path_factory.mktemp("journal") / "list"
    written = []
    for count in runs:
        journal = Journal(path, Entry, keep)
        for _ in range(count):
            written.append(len(written))
            assert journal.append(Entry(written[-1]))
        journal.close()
        with path.open("ab") as file:
            file.write(tail)
    found = numbers(Journal(path, Entry, keep))
    assert found == written[len(written) - len(found) :]
    assert min(keep, len(written)) <= len(found) <= 2 * keep


def test_what_cannot_be_read_is_passed_over(tmp_path):
    path = tmp_path / "list"
    path.write_bytes(b'{"number":1}\nrubbish\n{"number":"no"}\n\xff\n{"number":2}\n{"num')
    journal = Journal(path, Entry)
    assert numbers(journal) == [1, 2]
    journal.append(Entry(3))
    assert numbers(journal) == [1, 2, 3]
    journal.close()


def test_a_disk_that_refuses_costs_entries_and_nothing_else(tmp_path):
    journal = Journal(tmp_path / "no such directory" / "list", Entry)
    assert not journal.append(Entry(1))
    (tmp_path / "no such directory").mkdir()
    assert journal.append(Entry(2))
    assert numbers(journal) == [2]
    journal.close()


def test_half_a_line_on_a_full_disk_is_taken_back(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "list", Entry)
    journal.append(Entry(1))
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:4]))
    assert not journal.append(Entry(2))
    monkeypatch.undo()
    assert journal.append(Entry(3))
    assert (tmp_path / "list").read_bytes() == b'{"number":1}\n{"number":3}\n'
    journal.close()


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("mine\n")
    (tmp_path / "list").symlink_to(tmp_path / "secret")
    journal = Journal(tmp_path / "list", Entry)
    assert not journal.append(Entry(1))
    assert (tmp_path / "secret").read_text() == "mine\n"


@pytest.fixture(autouse=True)
def no_descriptor_stays_open():
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before
