"""What a container sees of the machine, and what it can't do to it."""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from runtime import process_stat
from runtime.spec import Bind, Donor
from tests.real.shim_driver import BUSYBOX

KINDS = {"net": "network", "pid": "pid", "ipc": "ipc"}


def test_every_namespace_is_its_own(driver):
    kinds = ("mnt", "pid", "uts", "ipc", "net", "cgroup")
    seen = driver.run("for n in mnt pid uts ipc net cgroup; do readlink /proc/self/ns/$n; done")
    host = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    assert len(seen.split()) == len(kinds)
    assert not set(seen.split()) & set(host)


def test_the_hosts_network_on_request_with_its_sys_read_only(driver):
    seen = driver.run("readlink /proc/self/ns/net; ls /sys/class/net", network="host").split()
    assert seen[0] == os.readlink("/proc/self/ns/net")
    assert sorted(seen[1:]) == sorted(os.listdir("/sys/class/net"))
    options = driver.run("grep ' /sys sysfs ' /proc/mounts", network="host").split()[3]
    assert "ro" in options.split(",")
    host = next(line for line in Path("/proc/mounts").read_text().splitlines() if " /sys " in line)
    assert "rw" in host.split()[3].split(",")


def test_the_machine_s_namespaces_on_request(driver):
    machine_s = {"pid": "host", "ipc": "host", "uts": "host", "hostname": ""}
    script = "for n in pid ipc uts net mnt; do readlink /proc/self/ns/$n; done; echo $$"
    *seen, number = driver.run(script, **machine_s).split()
    assert [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "ipc", "uts")] == seen[:3]
    assert os.readlink("/proc/self/ns/net") != seen[3]
    assert int(number) > 1
    script = (
        "p=$(setsid sh -c 'sleep 1000 >/dev/null & echo $!'); grep PPid /proc/$p/status; echo $p"
    )
    started = driver.start("sh", "-c", f"{script}; exec sleep 1000", **machine_s)
    assert started.readline() == f"PPid:\t{started.pid}\n"
    orphan = os.pidfd_open(int(started.readline()))
    signal.pidfd_send_signal(orphan, signal.SIGKILL)
    select.select([orphan], [], [], 10)
    os.close(orphan)


def test_another_s_namespaces(driver):
    donor = driver.start("sh", "-c", "echo mine > /dev/shm/file; echo up; exec sleep 1000")
    assert donor.readline() == "up\n"
    ticks = process_stat.start_ticks(donor.pid)
    of = Donor(donor.id, donor.pid, ticks)
    script = "for n in net pid ipc; do readlink /proc/self/ns/$n; done; cat /dev/shm/file; echo $$"
    for shared in ({"network": of}, {"pid": of}, {"ipc": of}, dict.fromkeys(KINDS.values(), of)):
        shown = driver.run(f"{script} 2>&1", **shared).splitlines()
        for kind, seen in zip(KINDS, shown, strict=False):
            same = os.readlink(f"/proc/{donor.pid}/ns/{kind}") == seen
            assert same == (KINDS[kind] in shared)
        assert ("mine" in shown) == ("ipc" in shared)
        assert (shown[-1] == "1") == ("pid" not in shared)
    for wrong in (Donor(donor.id, donor.pid, ticks + 1), Donor("nobody", donor.pid, ticks)):
        for kind in KINDS.values():
            refused = driver.start("true", **{kind: wrong}).refused
            assert refused.errno == errno.ESRCH
            assert refused.message == f"container {wrong.id}, which it joins, has ended"
    refused = driver.start("/nosuch", network=of).failure()
    assert (refused["exit_code"], refused["errno"]) == (127, errno.ENOENT)
    donor.kill()
    assert driver.exit_of(donor.id).wait_status == signal.SIGKILL


def test_an_init_before_the_payload(driver):
    """Any static program will do: busybox is what its first argument says."""
    init = os.path.realpath(BUSYBOX)
    script = (
        "tr '\\0' ' ' < /proc/self/cmdline; echo $$; ls /proc/self/fd; id -u; cat /proc/$$/comm; :"
    )
    for user in ("", "bird"):
        started = driver.start("sh", "-c", script, init=init, user=user, readonly_root=True)
        assert started.failure() is None
        shown = started.output().splitlines()
        assert shown[0].startswith("sh -c tr ")
        assert shown[0].endswith(" 1")
        assert shown[1:] == ["0", "1", "2", "3", "1234" if user else "0", os.path.basename(init)]
    failure = driver.start("true", init="/no/such/init").failure()
    assert (failure["exit_code"], "no such file" in failure["words"]) == (125, True)
    failure = driver.start("true", init="/etc/hostname").failure()
    assert failure["exit_code"] == 126


@pytest.mark.parametrize("round_number", range(10))  # more than the pool holds
def test_loopback_is_up_and_alone(driver, round_number):
    assert driver.run("ls /sys/class/net; cat /sys/class/net/lo/flags").split() == ["lo", "0x9"]
    assert "1 packets received" in driver.run("ping -c 1 -w 2 127.0.0.1")


def test_the_payload_is_process_one_of_its_own_session_with_nothing_else_open(driver):
    script = "echo $$; cut -d' ' -f 5-6 /proc/1/stat; ls /proc/1/fd; umask; readlink /proc/1/fd/0"
    seen = driver.run(script).splitlines()
    assert seen == ["1", "1 1", "0", "1", "2", "0022", "/dev/null"]


def test_stdout_and_stderr_are_two_streams(driver):
    started = driver.start("sh", "-c", "echo out; echo err >&2")
    assert (started.output(), started.errors()) == ("out\n", "err\n")


@pytest.mark.parametrize("user", ["", "1000", "1000:1000"])
def test_its_user_may_open_its_streams_by_their_names(driver, user):
    script = "echo out > /dev/stdout; echo err > /dev/stderr; echo out >> /proc/self/fd/1"
    started = driver.start("sh", "-c", script, user=user)
    assert (started.output(), started.errors()) == ("out\nout\n", "err\n")


def test_the_names(driver):
    seen = driver.run("hostname; cat /proc/sys/kernel/domainname", domainname="wood")
    assert seen.split()[1] == "wood"
    assert seen.split()[0].startswith("c")


def test_dev_is_complete(driver):
    listing = driver.run("ls /dev | sort").split()
    expected = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert listing == expected.split()
    script = "for d in null zero full random urandom tty; do stat -c '%n %F %t %T' /dev/$d; done"
    wanted = {"null": "1 3", "zero": "1 5", "full": "1 7", "random": "1 8", "urandom": "1 9"}
    wanted["tty"] = "5 0"
    assert driver.run(script).splitlines() == [
        f"/dev/{name} character special file {numbers}" for name, numbers in wanted.items()
    ]
    script = "for l in fd stdin stdout stderr core ptmx; do readlink /dev/$l; done"
    fd = "/proc/self/fd"
    links = [fd, f"{fd}/0", f"{fd}/1", f"{fd}/2", "/proc/kcore", "pts/ptmx"]
    assert driver.run(script).split() == links
    script = "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 8 /dev/urandom | wc -c"
    assert driver.run(script).split() == ["3", "8"]


def test_dev_full_is_full_and_shm_has_its_size(driver):
    started = driver.start("sh", "-c", "echo x > /dev/full")
    assert started.output() == ""
    assert "No space left" in started.errors()
    script = "df -k /dev/shm | tail -1 | awk '{print $2}'; stat -c %a /dev/shm"
    assert driver.run(script, shm_size=3 * 1024 * 1024).split() == ["3072", "1777"]


def test_terminals_are_its_own(driver):
    script = "grep ' /dev/pts ' /proc/mounts; stat -c %a /dev/pts/ptmx; ls /dev/pts"
    seen = driver.run(script).split("\n")
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= set(seen[0].split()[3].split(","))
    assert seen[1:3] == ["666", "ptmx"]


def test_a_device_node_that_it_makes_can_not_be_opened(driver):
    script = """
        mknod /disk b 254 0 && mknod /dev/disk b 254 0 && mknod /tmp/zero c 1 5 || exit 9
        for node in /disk /dev/disk /tmp/zero; do head -c 1 $node; done; exit 0
    """
    started = driver.start("sh", "-c", script)
    assert started.output() == ""
    assert started.errors().count("Permission denied") == 3
    assert started.status() == 0


def test_a_device_node_in_a_bind_can_not_be_opened(driver, tmp_path):
    os.mknod(tmp_path / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    started = driver.start("head", "-c", "1", "/b/zero", binds=(Bind(str(tmp_path), "/b"),))
    assert (started.output(), started.failure()) == ("", None)
    assert "Permission denied" in started.errors()


def test_the_hosts_device_nodes_can_not_be_changed(driver):
    before = Path("/dev/null").stat()
    started = driver.start("sh", "-c", "chmod 0 /dev/null; chown 1 /dev/null; rm -f /dev/null")
    assert started.errors().count("Read-only file system") == 2
    after = Path("/dev/null").stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)


def test_masked_and_read_only_paths(driver):
    script = """
        for f in /proc/interrupts /proc/keys /proc/timer_list /proc/kcore /proc/sched_debug; do
            [ ! -e $f ] || cat $f; done
        for d in /proc/acpi /proc/scsi /proc/asound /sys/firmware; do [ ! -e $d ] || ls $d; done
    """
    assert driver.run(script) == ""
    script = """
        for p in /proc/sys/kernel/hostname /proc/irq/default_smp_affinity; do
            [ ! -e $p ] || ( echo x > $p ) 2>&1; done
        mkdir /proc/acpi/x /sys/firmware/x /sys/fs/cgroup/x 2>&1; true
    """
    seen = driver.run(script)
    assert seen.count("Read-only file system") == len(seen.splitlines()) >= 4


def test_paths_of_ones_own_are_protected_too(driver):
    script = "cat /etc/passwd; ls /tmp; ( echo x > /etc/x ) 2>&1; ( mkdir /bin/x ) 2>&1; true"
    masked, readonly = ("/etc/passwd", "/tmp", "/nowhere"), ("/etc", "/bin", "/nowhere")
    seen = driver.run(script, masked_paths=masked, readonly_paths=readonly)
    assert seen.count("Read-only file system") == len(seen.splitlines()) == 2


def test_docker_s_capabilities_and_nothing_more(driver):
    lines = driver.run("grep -e Cap -e NoNewPrivs /proc/self/status").split()
    docker = "00000000a80425fb"
    nothing = "0" * 16
    expected = {"CapInh:": nothing, "CapPrm:": docker, "CapEff:": docker, "CapBnd:": docker}
    expected |= {"CapAmb:": nothing, "NoNewPrivs:": "0"}
    assert dict(zip(lines[::2], lines[1::2], strict=True)) == expected


def test_capabilities_and_privileges_as_asked(driver):
    script = "grep -e CapEff -e CapBnd -e NoNewPrivs /proc/self/status"
    seen = driver.run(script, capabilities=("CAP_CHOWN",), no_new_privileges=True).split()
    assert seen[1::2] == ["0" * 15 + "1", "0" * 15 + "1", "1"]


def test_what_needs_a_capability_it_has_not_is_refused(driver):
    script = "mount -t tmpfs x /tmp; hostname other; ip link set lo down; exit 0"
    started = driver.start("sh", "-c", script)
    assert started.output() == ""
    errors = started.errors().lower()
    assert errors.count("permission denied") + errors.count("not permitted") == 3


def test_no_signal_is_ignored_or_blocked_or_caught(driver):
    started = driver.start("grep", "-e", "SigBlk", "-e", "SigIgn", "-e", "SigCgt", "/proc/1/status")
    assert started.output().split()[1::2] == ["0" * 16] * 3


def test_environment(driver):
    seen = driver.run("env", env=("A=1", "A=2", "EMPTY=", "GONE"), hostname="box").splitlines()
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert {"A=2", "EMPTY=", "HOSTNAME=box", "HOME=/root", path} <= set(seen)
    assert not [line for line in seen if line.startswith(("GONE", "TERM", "LC_ALL", "LD_"))]
    assert "HOME=/mine" in driver.run("env", env=("HOME=/mine",)).splitlines()


def test_the_root_is_the_layers_and_writes_stay_above_them(driver, tmp_path):
    top = tmp_path / "top"
    (top / "etc").mkdir(parents=True)
    (top / "etc/passwd").write_text("root:x:0:0::/top:/bin/sh\n")
    started = driver.start("sh", "-c", "echo $HOME; echo new > /new; cat /etc/group | head -1")
    assert started.output().split() == ["/root", "root:x:0:"]
    lower = str(driver.lower)
    seen = driver.run("echo $HOME; ls /new 2>/dev/null; cat /plain", lower=(str(top), lower))
    assert seen.splitlines() == ["/top", "no program"]
    assert not (driver.lower / "new").exists()


def _many_layers(directory, count, name="{}"):
    """Directories deep down, each with a file."""
    deep = directory / ("a: b,c" * 20)
    for number in range(count):
        layer = deep / name.format(number)
        layer.mkdir(parents=True)
        (layer / f"from{number}").touch()
        yield str(layer)


@pytest.mark.parametrize("volatile", [False, True])
def test_layers_that_do_not_fit_one_page_of_options(driver, tmp_path, volatile):
    layers = tuple(_many_layers(tmp_path, 127))
    assert len(":".join(layers)) > 4 * 4096
    more = {"lower": (*layers, str(driver.lower)), "volatile": volatile}
    assert driver.run("ls -d /from* | wc -l", **more) == "127\n"


def test_layers_whose_names_no_page_can_hold(driver, tmp_path):
    layers = tuple(_many_layers(tmp_path, 60, "layer" * 20 + "{}"))
    report = driver.start("true", lower=(*layers, str(driver.lower))).failure()
    assert report["step"] == "mount the root"
    assert "the names of its layers do not fit one page" in report["words"]


def test_odd_characters_in_paths(driver, tmp_path):
    layer = tmp_path / "a:b,c\\d e"
    layer.mkdir()
    (layer / "here").touch()
    assert driver.run("ls /here", lower=(str(layer), str(driver.lower))) == "/here\n"


def test_a_volatile_root_starts_again_and_again(driver):
    spec = driver.spec("again", "sh", "-c", "cat /n 2>/dev/null; echo x >> /n", volatile=True)
    for times in range(3):
        started = driver.answer(driver.send_spawn(spec))
        assert started.failure() is None
        assert started.output() == "x\n" * times
        started.exited()
        driver.forget(started)
        driver._exits.clear()
        driver.cgroups.create("again")
    driver.cgroups.remove("again")


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_an_image_that_links_its_mount_points_elsewhere_is_refused(driver, tmp_path, name):
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / name).symlink_to("/tmp")
    started = driver.start("true", lower=(str(layer), str(driver.lower)))
    report = started.failure()
    assert report["step"] == "mount the root"
    assert f"not a directory in the image: /{name}" in report["words"]


def test_the_hosts_mount_table_does_not_change(driver):
    started = driver.start("sleep", "1000")
    assert started.failure() is None
    assert driver.host_mounts() == []
    inside = Path(f"/proc/{started.pid}/mountinfo").read_text()
    assert str(driver.run_dir.parent) in inside  # the overlay's options name it
    assert list(Path(driver.spec("unused", "x").merged).iterdir()) == []
    driver.cgroups.remove("unused")


def test_the_container_s_mounts_are_only_its_own(driver):
    seen = driver.run("cat /proc/self/mountinfo")
    roots = [line.split()[4] for line in seen.splitlines()]
    assert roots[0] == "/"
    assert all(path == "/" or path.startswith(("/proc", "/sys", "/dev")) for path in roots)
    assert len(roots) == len(set(roots))
    flags = {line.split()[4]: line.split()[5].split(",") for line in seen.splitlines()}
    assert "nodev" in flags["/"]
    assert "ro" in flags["/sys"]
    assert not [line for line in seen.splitlines() if "shared:" in line or "master:" in line]


def test_the_working_directory(driver):
    assert driver.run("pwd", cwd="/etc") == "/etc\n"
    # As Docker: root enters it, so a user finds itself where it could not have gone.
    assert driver.run("pwd", cwd="/closed", user="bird") == "/closed\n"


def test_binds(driver, tmp_path):
    (tmp_path / "file").write_text("from the host\n")
    (tmp_path / "dir").mkdir()
    binds = (
        Bind(str(tmp_path / "file"), "/etc/motd", readonly=True),
        Bind(str(tmp_path / "dir"), "/deep/er/dir"),
        Bind(str(tmp_path / "file"), "/deep/er/dir/file"),
    )
    script = """
        cat /etc/motd /deep/er/dir/file; ( echo x > /etc/motd ) 2>/dev/null && echo written
        echo new > /deep/er/dir/new; stat -c %a /deep
    """
    assert driver.run(script, binds=binds).splitlines() == ["from the host"] * 2 + ["755"]
    assert (tmp_path / "dir/new").read_text() == "new\n"
    assert (tmp_path / "file").read_text() == "from the host\n"


@pytest.fixture
def mounted_below(tmp_path):
    """A directory with another file system mounted below it."""
    (tmp_path / "outer/inner").mkdir(parents=True)
    inner = tmp_path / "outer/inner"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid", "below", inner], check=True)
    yield tmp_path / "outer"
    subprocess.run(["umount", inner], check=True)


def test_a_read_only_bind_is_read_only_below_too(driver, mounted_below):
    bind = Bind(str(mounted_below), "/b", readonly=True)
    script = "touch /b/x /b/inner/x 2>&1; grep ' /b' /proc/mounts | cut -d' ' -f4; true"
    seen = driver.run(script, binds=(bind,)).splitlines()
    assert [line for line in seen if "Read-only file system" in line] == seen[:2]
    outer, inner = (line.split(",") for line in seen[2:])
    assert {"ro", "nodev"} <= set(outer)
    assert {"ro", "nodev", "nosuid"} <= set(inner)
    (mounted_below / "inner/y").touch()  # the host's own mount is as it was


def test_a_bind_s_target_can_not_lead_out(driver, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    layer = tmp_path / "layer"
    (layer / "etc").mkdir(parents=True)
    (layer / "out").symlink_to(f"../../../../../../..{outside}")
    (layer / "magic").symlink_to("/proc/self/cwd/x")
    source = tmp_path / "source"
    source.mkdir()
    lower = (str(layer), str(driver.lower))
    started = driver.start("true", lower=lower, binds=(Bind(str(source), "/out/deep"),))
    assert started.failure() is not None or started.status() == 0
    assert list(outside.iterdir()) == []
    started = driver.start("true", lower=lower, binds=(Bind(str(source), "/magic"),))
    report = started.failure()
    assert report["step"] == "bind"
    assert report["exit_code"] == 125
