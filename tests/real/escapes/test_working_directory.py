"""CVE-2024-21626: a working directory through a descriptor that a runtime left open."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.real.exec_driver import entered

READ = "cat ../../../../../../../../../../etc/hostname && pwd"
DESCRIPTORS = (*range(3, 12), 128)
"""Those that a process of ours has at some stage (`runtime.program`)."""


@pytest.fixture
def machine_only(tmp_path):
    """A directory of the machine's, with a file where the payload looks for it."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-only").write_text("seen\n")
    return tmp_path


def test_the_payload_succeeds_where_a_runtime_leaves_a_descriptor_open(machine_only, driver):
    """A runtime without the check: chroot(2), chdir(2) to the leaked descriptor, execve(2)."""
    leaked = os.open(machine_only, os.O_RDONLY | os.O_DIRECTORY)

    def enter():
        os.chroot(driver.lower)
        os.fchdir(leaked)

    read = "cat ./etc/machine-only"
    found = subprocess.run(["/bin/busybox", "sh", "-c", read], preexec_fn=enter, stdout=-1)
    os.close(leaked)
    assert found.stdout == b"seen\n"


@pytest.mark.parametrize("place", ["/proc/self/fd/{}", "/link-{}"])
def test_cve_2024_21626_by_run(driver, tmp_path, place):
    """Every number that could be one of ours, also through a link in the image."""
    top = tmp_path / "top"
    top.mkdir()
    for number in DESCRIPTORS:
        (top / f"link-{number}").symlink_to(f"/proc/self/fd/{number}")
    for number in DESCRIPTORS:
        more = {"cwd": place.format(number), "lower": (str(top), str(driver.lower))}
        started = driver.start("sh", "-c", READ, **more)
        assert "working directory" in started.failure()["words"]
        assert started.output() == ""
        driver.forget(started)


def test_cve_2024_21626_by_run_with_an_init_s_directory_open(driver):
    """The one directory that is open then is that of the init before the payload."""
    if not os.path.exists("/usr/bin/tini-static"):
        pytest.skip("needs tini-static")
    for number in range(3, 7):
        more = {"init": "/usr/bin/tini-static", "cwd": f"/proc/self/fd/{number}"}
        started = driver.start("/usr/bin/tini-static", "--", "sh", "-c", "ls; pwd", **more)
        assert "working directory" in started.failure()["words"]
        driver.forget(started)


@pytest.mark.parametrize("place", ["/proc/self/fd/{}"])
def test_cve_2024_21626_by_exec(driver, place):
    started = driver.start("sleep", "1000")
    assert started.failure() is None
    for number in DESCRIPTORS:
        with entered(driver, started, "sh", "-c", READ, cwd=place.format(number)) as one:
            refused = one.failure()
            one.status()
        assert refused is not None, number
        assert "working directory" in refused["words"]
