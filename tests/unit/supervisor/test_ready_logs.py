"""What a create opens for the start that follows: handed over once, and only while it is right."""

import os

import pytest

from supervisor import network_files, ready_logs
from supervisor.container import Container, ContainerConfig
from supervisor.ready_logs import MOST, ReadyLogs, make_ready


def container(number=1, **options):
    config = ContainerConfig(image="host", image_id="sha256:00", **options)
    return Container(f"{number:064x}", f"finch{number}", config, 123)


def opened(tmp_path, one):
    directory = tmp_path / one.id
    directory.mkdir()
    return make_ready(one, directory)


def descriptors():
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture
def later(monkeypatch):
    """Call it, and the time for which a log is kept is over."""
    return lambda: monkeypatch.setattr(ready_logs, "KEPT_S", -1.0)


def test_a_log_is_handed_over_once(tmp_path):
    ready, one = ReadyLogs(), container()
    assert ready.wants(one)
    made = opened(tmp_path, one)
    ready.put(one, made)
    assert ready.take(one) is made
    assert ready.take(one) is None
    made.close()


def test_after_a_rename_it_is_not_the_log_that_a_start_would_open(tmp_path):
    ready, one = ReadyLogs(), container()
    ready.put(one, opened(tmp_path, one))
    one.name = "robin"
    assert ready.take(one) is None


@pytest.mark.parametrize("what", ["moved", "another"])
def test_a_log_whose_place_is_taken_is_not_handed_over(tmp_path, what):
    ready, one = ReadyLogs(), container()
    made = opened(tmp_path, one)
    ready.put(one, made)
    os.rename(made.path, tmp_path / "elsewhere")
    if what == "another":
        open(made.path, "x").close()
    assert ready.take(one) is None


def test_an_old_one_is_not_handed_over(tmp_path, later):
    ready, one = ReadyLogs(), container()
    ready.put(one, opened(tmp_path, one))
    later()
    assert ready.take(one) is None


def test_what_nobody_starts_makes_room(tmp_path, later):
    before, ready = descriptors(), ReadyLogs()
    for number in range(MOST):
        one = container(number)
        assert ready.wants(one)
        ready.put(one, opened(tmp_path, one))
    assert len(descriptors()) == len(before) + MOST
    assert not ready.wants(container(MOST))
    later()
    assert ready.wants(container(MOST))
    del one
    assert descriptors() == before


def test_no_descriptor_outlives_a_removal(tmp_path):
    before, ready, one = descriptors(), ReadyLogs(), container()
    ready.put(one, opened(tmp_path, one))
    ready.drop(one.id)
    ready.drop(one.id)
    assert descriptors() == before


def test_a_log_with_a_thread_of_its_own_is_not_opened_ahead():
    assert not ReadyLogs().wants(container(log_options={"mode": "non-blocking"}))


def test_network_files_are_written_where_they_are_not_as_they_should_be(tmp_path):
    one = container(hostname="nest")
    network_files.write(tmp_path, one)
    right = {name: (tmp_path / name).read_bytes() for name in network_files.NAMES}
    assert right["hostname"] == b"nest\n"
    for wrong in (b"", b"ne", b"nest\nand more\n", b"NEST\n"):
        (tmp_path / "hostname").write_bytes(wrong)
        network_files.write(tmp_path, one)
        assert {name: (tmp_path / name).read_bytes() for name in network_files.NAMES} == right


def test_network_files_that_are_right_are_left_alone(tmp_path):
    one = container()
    network_files.write(tmp_path, one)
    for name in network_files.NAMES:
        os.utime(tmp_path / name, ns=(1, 1))
    network_files.write(tmp_path, one)
    assert {(tmp_path / name).stat().st_mtime_ns for name in network_files.NAMES} == {1}


def test_a_long_file_of_the_host_is_whole(tmp_path, monkeypatch):
    source = tmp_path / "resolv.conf"
    source.write_bytes(b"# a long one\n" * 5000)
    assert network_files._host_file(str(source)) == source.read_bytes()
