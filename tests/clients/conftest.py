"""A supervisor for each client, with an image of busybox beside the built-in `host`."""

from __future__ import annotations

import gc
import os
import warnings

import pytest

from tests.clients.root_trees import BUSYBOX, busybox_tar
from tests.real.conftest import nothing_is_left
from tests.real.engine_process import EngineProcess

__all__ = ["nothing_is_left"]


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/clients" not in item.path.as_posix():
            continue
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="real containers need root"))
        elif not BUSYBOX.exists():
            item.add_marker(
                pytest.mark.skip(reason="needs /bin/busybox (apt-get install busybox-static)")
            )


@pytest.fixture(scope="session")
def box():
    """The root file system of the image `box:1`, as a tar."""
    return busybox_tar()


@pytest.fixture(scope="module")
def engine(nothing_is_left, tmp_path_factory, box):
    process = EngineProcess(tmp_path_factory.mktemp("clients")).start()
    path = "/images/create?fromSrc=-&repo=box&tag=1&changes=CMD%20echo%20from%20the%20box"
    answer = process.post(path, box, {"Content-Type": "application/x-tar"})
    assert answer.status == 200, answer
    yield process
    process.close()


@pytest.fixture(autouse=True)
def no_container_is_left(engine):
    """What a test has started ends with it."""
    yield
    for container in engine.get("/containers/json?all=1").json:
        engine.delete(f"/containers/{container['Id']}?force=1&v=1")


@pytest.fixture(scope="module")
def sockets_collected():
    """docker-py leaves those of streams to the garbage collector; no other module is blamed."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
