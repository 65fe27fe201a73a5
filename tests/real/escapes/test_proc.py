"""Escapes by way of /proc and /dev: masks that lead elsewhere, and writes that land elsewhere."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from runtime.spec import Bind
from tests.real.escapes.peer import bind
from tests.real.exec_driver import entered

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern").read_text()
WRITES_CORE_PATTERN = "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern"
"""What it is already: where the payload succeeds the machine stays as it was."""


@pytest.fixture
def hostile_dev(tmp_path):
    """A volume for /dev whose null is a link."""

    def make(null: str) -> Path:
        volume = tmp_path / "dev"
        volume.mkdir()
        (volume / "null").symlink_to(null)
        return volume

    return make


def test_cve_2025_31133_a_mask_s_null_device_is_a_link(driver, hostile_dev, runc):
    """A masked file becomes a window to any file: here to one that is worth writing to."""
    volume = hostile_dev("/proc/sys/kernel/core_pattern")
    script = "cat /proc/timer_list"
    config = runc.config("sh", "-c", script)
    config["mounts"] = [
        one for one in config["mounts"] if not one["destination"].startswith("/dev")
    ]
    config["mounts"].append(bind(volume, "/dev"))
    if runc.version < (1, 2, 8):
        assert runc.run(config) == (0, CORE_PATTERN)
    started = driver.start("sh", "-c", script, binds=(Bind(str(volume), "/dev"),))
    refused = started.failure()
    assert "symbolic links: /dev/null" in refused["words"]
    # Someone else gives it a real one once we have looked: the masks have used our own before.
    (volume / "null").unlink()
    os.mknod(volume / "null", 0o666 | 0o020000, os.makedev(1, 3))
    started = driver.start("sh", "-c", script, binds=(Bind(str(volume), "/dev"),))
    # Nothing on a volume can be opened as a device.
    assert "permission denied: /dev/null" in started.failure()["words"]


def test_cve_2025_31133_masks_hold_where_dev_changes_meanwhile(driver, tmp_path):
    """A neighbour that shares the volume swaps the null device while we start."""
    volume, swapped = tmp_path / "dev", tmp_path / "swapped"
    for place, null in ((volume, "/proc/sys/kernel/core_pattern"), (swapped, None)):
        place.mkdir()
        if null is not None:
            (place / "null").symlink_to(null)
        else:
            (place / "null").touch()
    ended = threading.Event()

    def swap():
        # Both are called /dev/null in turn.
        while not ended.is_set():
            os.rename(volume / "null", volume / "other")
            os.rename(swapped / "null", volume / "null")
            os.rename(volume / "null", swapped / "null")
            os.rename(volume / "other", volume / "null")

    neighbour = threading.Thread(target=swap)
    neighbour.start()
    try:
        for _ in range(8):
            started = driver.start(
                "cat", "/proc/timer_list", binds=(Bind(str(volume), "/dev"),), terminal=None
            )
            assert started.failure() is not None
            assert started.output() == ""
    finally:
        ended.set()
        neighbour.join()


COVERS = {
    "/proc": "not of type proc",
    "/proc/self": "inside /proc",
    "/proc/self/attr": "inside /proc",
    "/proc/sys": "inside /proc",
    "/link": "not of type proc",
    "/link/self/attr": "inside /proc",
}


@pytest.mark.parametrize("target", COVERS)
def test_cve_2019_19921_and_2023_27561_a_volume_over_proc(driver, tmp_path, runc, target):
    """What is written to /proc would go to the volume: no profile, mask or limit would hold."""
    (driver.lower / "link").unlink(missing_ok=True)
    (driver.lower / "link").symlink_to("proc")
    (tmp_path / "self/attr").mkdir(parents=True)
    started = driver.start("true", binds=(Bind(str(tmp_path), target),))
    assert COVERS[target] in started.failure()["words"]
    if target == "/proc":
        config = runc.config("true")
        config["mounts"].append(bind(tmp_path, "/proc"))
        assert "not of type proc" in runc.run(config)[1]


def test_what_may_be_shown_in_proc(driver, tmp_path):
    """lxcfs does so; and the machine's own /proc may be shown, with our masks on it."""
    (tmp_path / "uptime").write_text("1 1\n")
    shown = Bind(str(tmp_path / "uptime"), "/proc/uptime")
    assert driver.run("cat /proc/uptime", binds=(shown,)) == "1 1\n"
    elsewhere = (Bind("/proc", "/host/proc"), Bind(str(tmp_path / "uptime"), "/host/proc/stat"))
    assert driver.run("cat /host/proc/stat", binds=elsewhere) == "1 1\n"
    machine = (Bind("/proc", "/proc"),)
    assert driver.run("wc -c < /proc/timer_list", binds=machine) == "0\n"
    denied = f"! ({WRITES_CORE_PATTERN}) 2>&1"
    assert "Read-only file system" in driver.run(denied, binds=machine)


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_cve_2023_28642_an_image_whose_proc_is_a_link(driver, tmp_path, name):
    top = tmp_path / "top"
    (top / "elsewhere/self/attr").mkdir(parents=True)
    (top / name).symlink_to("elsewhere")
    started = driver.start("true", lower=(str(top), str(driver.lower)))
    assert "not a directory in the image" in started.failure()["words"].lower()


def test_cve_2025_52881_what_we_write_to_proc_does_not_go_to_the_payload_s(driver):
    """It shows whoever enters a /proc of its own making, with links where we used to write."""
    script = """
        mount -t tmpfs none /proc && mkdir -p /proc/self/attr/apparmor || exit 1
        for name in oom_score_adj attr/exec attr/apparmor/exec loginuid; do
            touch /proc/self/$name
        done
        echo ready; exec sleep 1000
    """
    more = {"capabilities": ("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"), "oom_score_adj": 500}
    started = driver.start("sh", "-c", script, **more)
    assert started.readline() == "ready\n"
    find = "find /proc/self -type f -size +0"
    with entered(driver, started, "sh", "-c", find, oom_score_adj=500) as one:
        assert one.failure() is None
        assert (one.output(), one.status()) == ("", 0)
    with entered(driver, started, "sleep", "1000", oom_score_adj=500) as one:
        assert one.failure() is None
        assert Path(f"/proc/{one.pid}/oom_score_adj").read_text() == "500\n"
        signal.pidfd_send_signal(one.pidfd, signal.SIGKILL)
        one.status()


def test_cve_2025_52881_sysctls_are_written_before_a_volume_could_cover_them(driver, tmp_path):
    """runc could be made to write them to sysrq-trigger or core_pattern."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net/ipv4").mkdir()
    (tmp_path / "net/ipv4/ip_forward").symlink_to("/proc/sys/kernel/core_pattern")
    more = {"sysctls": (("net/ipv4/ip_forward", "1"),)}
    started = driver.start("true", binds=(Bind(str(tmp_path), "/proc/sys"),), **more)
    assert "inside /proc" in started.failure()["words"]
    assert driver.run("cat /proc/sys/net/ipv4/ip_forward", **more) == "1\n"
    assert Path("/proc/sys/kernel/core_pattern").read_text() == CORE_PATTERN


def test_cve_2025_52565_a_console_that_leads_elsewhere(driver, tmp_path):
    """/dev is a neighbour's volume: /dev/console and /dev/pts/0 are links to what is protected."""
    for name, target in (("console", "/proc/sysrq-trigger"), ("null", "/proc/kcore")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "pts").mkdir()
    (tmp_path / "ptmx").symlink_to("/proc/sys/kernel/core_pattern")
    started = driver.start("true", binds=(Bind(str(tmp_path), "/dev"),), terminal=(24, 80))
    words = started.failure()["words"]
    assert "multiplexer" in words or "read-only file system: /dev/ptmx" in words


def test_core_pattern_and_its_like_cannot_be_written(driver):
    """CVE-2022-0811 and others: what the machine runs as root. Unprotected, it succeeds."""
    names = ("kernel/core_pattern", "kernel/modprobe", "kernel/ns_last_pid", "vm/overcommit_memory")
    script = "cd /proc/sys; for f in $0 $@; do [ -e $f ] && cat $f > $f && echo $f; done; true"
    more = {"capabilities": ("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE")}
    unprotected = driver.start("sh", "-c", script, *names, readonly_paths=(), **more)
    written = unprotected.output().split()
    assert set(written) == {name for name in names if Path("/proc/sys", name).exists()}
    protected = driver.start("sh", "-c", script, *names, **more)
    assert (protected.failure(), protected.output()) == (None, "")
    assert protected.errors().count("Read-only file system") == len(written)
    assert driver.run("! (echo h > /proc/sysrq-trigger) 2>&1") != ""
