"""config.json: whole or not at all, whatever the disk does."""

import errno
import json
import os

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor import store
from supervisor.container import Container, ContainerConfig, Life, Resources
from supervisor.state_version import VERSION, NewerState
from supervisor.states import State

ID = "ab" * 32
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
INTS = st.integers(0, 2**62)


def container(config=None, life=None):
    config = config or ContainerConfig(image="host", image_id="sha256:00")
    return Container(ID, "finch", config, 123, life, "/log")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    config=st.builds(
        ContainerConfig,
        image=TEXT,
        image_id=TEXT,
        entrypoint=st.lists(TEXT).map(tuple),
        cmd=st.lists(TEXT).map(tuple),
        env=st.lists(TEXT).map(tuple),
        labels=st.dictionaries(TEXT, TEXT),
        stop_timeout=st.none() | st.integers(-1, 1000),
        resources=st.builds(Resources, memory=INTS, nano_cpus=INTS, pids=st.none() | INTS),
        auto_remove=st.booleans(),
    ),
    life=st.builds(
        Life, state=st.sampled_from(State), pid=INTS, started_ns=INTS, exit_code=INTS, error=TEXT
    ),
)
def test_what_is_saved_is_loaded(tmp_path, config, life):
    directory = tmp_path / ID
    directory.mkdir(exist_ok=True)
    store.save(directory, container(config, life))
    loaded = store.load(directory)
    assert (loaded.id, loaded.name, loaded.created_ns, loaded.log_path) == (
        ID,
        "finch",
        123,
        "/log",
    )
    assert msgspec.structs.asdict(loaded.config) == msgspec.structs.asdict(config)
    assert msgspec.structs.asdict(loaded.life) == msgspec.structs.asdict(life)


@pytest.mark.parametrize("call", ["write", "rename", "open"])
def test_a_full_disk_keeps_the_old_record(tmp_path, monkeypatch, call):
    directory = tmp_path / ID
    directory.mkdir()
    store.save(directory, container())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left"):
            store.save(directory, container(life=Life(state=State.EXITED)))
    assert store.load(directory).state is State.CREATED
    assert [path.name for path in directory.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot read"),
        ("", "is not a container's record"),
        ("{", "is not a container's record"),
        ("[]", "is not a container's record"),
        ('{"version": 1}', "is not a container's record"),
    ],
)
def test_a_bad_record_is_named(tmp_path, text, words):
    directory = tmp_path / ID
    directory.mkdir()
    if text is not None:
        (directory / "config.json").write_text(text)
    with pytest.raises(store.UnreadableRecord, match=words) as caught:
        store.load(directory)
    assert str(directory / "config.json") in str(caught.value)


def test_a_record_of_a_later_version_or_of_somebody_else_is_refused(tmp_path):
    directory = tmp_path / ID
    directory.mkdir()
    store.save(directory, container())
    path = directory / "config.json"
    for text in (
        path.read_text().replace(f'"version":{VERSION}', '"version":99'),
        '{"version":99,"x":[]}',
    ):
        path.write_text(text)
        with pytest.raises(NewerState, match=r"written by a newer mdocker \(state version 99"):
            store.load(directory)
    store.save(directory, container())
    moved = directory.rename(tmp_path / ("cd" * 32))
    with pytest.raises(store.UnreadableRecord, match="belongs to container"):
        store.load(moved)


@pytest.mark.parametrize("created", [-1, 10**30])
def test_a_record_of_an_impossible_moment_is_refused(tmp_path, created):
    directory = tmp_path / ID
    directory.mkdir()
    store.save(directory, container())
    path = directory / "config.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "created_ns": created}))
    with pytest.raises(store.UnreadableRecord, match="created_ns"):
        store.load(directory)
