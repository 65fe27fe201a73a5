"""testcontainers for Python, which test suites start their databases with."""

from __future__ import annotations

import gc
import warnings

import pytest

pytest.importorskip("docker", reason="needs docker-py (pip install docker)")
pytest.importorskip("testcontainers", reason="needs testcontainers (pip install testcontainers)")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # docker-py leaves the sockets of streams to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def collected():
    """No other module is blamed for them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def containers(engine, monkeypatch):
    """The package, told where the engine is, and to do without its container of containers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from testcontainers.core import container, waiting_utils
        from testcontainers.core.config import testcontainers_config

    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine.socket}")
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    monkeypatch.setattr(testcontainers_config, "sleep_time", 0.02)
    container.wait_for_logs = waiting_utils.wait_for_logs
    return container


def test_it_is_there_within_the_block(containers, engine):
    with containers.DockerContainer("host").with_command("sleep 600").with_name("bird") as bird:
        shown = engine.inspect(bird.get_wrapped_container().id)
        assert (shown["Name"], shown["State"]["Running"]) == ("/bird", True)
        assert "org.testcontainers" in shown["Config"]["Labels"]
    assert engine.get("/containers/json?all=1").json == []


def test_it_is_waited_for_by_its_log(containers):
    command = ["sh", "-c", "echo starting; sleep 0.1; echo $GREETING; exec sleep 600"]
    made = containers.DockerContainer("box:1", command=command).with_env("GREETING", "ready now")
    with made as bird:
        containers.wait_for_logs(bird, "ready now", timeout=10, interval=0.02)
        out, err = bird.get_logs()
        assert (out.splitlines(), err) == ([b"starting", b"ready now"], b"")


def test_options_of_docker_py(containers, engine):
    made = containers.DockerContainer("host").with_command("sleep 600")
    with made.with_kwargs(mem_limit="64m", working_dir="/tmp", network_mode="none") as bird:
        shown = engine.inspect(bird.get_wrapped_container().id)
        assert shown["HostConfig"]["Memory"] == 64 * 1024**2
        assert shown["Config"]["WorkingDir"] == "/tmp"


def test_commands_files_and_volumes_in_it(containers, tmp_path):
    (tmp_path / "egg").write_text("egg")
    made = containers.DockerContainer("box:1").with_command("sleep 600")
    made.with_volume_mapping(str(tmp_path), "/nest", "ro").with_copy_into_container(
        b"tweet", "/tmp/song"
    )
    with made as bird:
        assert bird.exec("cat /nest/egg") == (0, b"egg")
        assert bird.exec(["cat", "/tmp/song"]).output == b"tweet"
        assert bird.exec("false").exit_code == 1


def test_what_is_not_done_is_refused_in_words(containers):
    import docker.errors

    with (
        pytest.raises(docker.errors.APIError, match=r"mdocker does not support .*Port"),
        containers.DockerContainer("box:1").with_exposed_ports(80),
    ):
        pass
    with (
        pytest.raises(docker.errors.ImageNotFound, match="cannot pull from registries yet"),
        containers.DockerContainer("redis:7"),
    ):
        pass


def test_its_container_of_containers_is_refused_in_words(containers, monkeypatch):
    """Without ryuk_disabled it wants an image that only a registry has."""
    import docker.errors
    from testcontainers.core.config import testcontainers_config

    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", False)
    with (
        pytest.raises(docker.errors.ImageNotFound, match="cannot pull from registries yet"),
        containers.DockerContainer("box:1"),
    ):
        pass
