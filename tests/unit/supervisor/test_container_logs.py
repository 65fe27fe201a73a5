"""A container's log: its own options, and what becomes of options that nobody knows any more."""

import pytest

from logs import background
from logs.framing import Stream
from supervisor.container import Container, ContainerConfig
from supervisor.container_logs import log_size, open_log_of


def container(tmp_path, **options):
    config = ContainerConfig(image="host", image_id="sha256:ab", **options)
    made = Container("ab" * 32, "bird", config, 0)
    made.log_path = str(tmp_path / f"{made.id}-json.log")
    return made


def test_its_own_options(tmp_path):
    log = open_log_of(
        container(tmp_path, log_options={"max-size": "1k", "max-file": "2"}), tmp_path
    )
    assert (log.options.max_size, log.options.max_file) == (1000, 2)
    log.close()


@pytest.mark.parametrize("options", [{"max-sise": "1k"}, {"labels-regex": "("}])
def test_options_of_another_version_keep_nobody_from_coming_up(tmp_path, options):
    log = open_log_of(container(tmp_path, log_options=options), tmp_path)
    assert log.options.max_size > 0
    log.close()


def test_a_size_counts_all_files(tmp_path):
    made = container(tmp_path, log_options={"max-size": "1k", "max-file": "3"})
    assert log_size(made.log_path) == 0
    assert log_size("") == 0
    log = open_log_of(made, tmp_path)
    log.stream(Stream.STDOUT).append(b"line\n" * 100)
    log.close()
    background.join()
    total = sum(path.stat().st_size for path in tmp_path.glob("*-json.log*"))
    assert log_size(made.log_path) == total > 2000
