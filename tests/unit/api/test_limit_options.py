"""Ulimits, sysctls, cgroup parents and limits of block devices: what is taken, what is refused."""

import msgspec
import pytest

from runtime import block_limits, rlimits, sysctls
from runtime.spec import Rlimit
from supervisor import kernel_limits
from supervisor.api import create, limit_options, limits, wire
from supervisor.api.update import updated_resources
from supervisor.container import Resources
from supervisor.errors import BadParameter, EngineError, Unsupported
from tests.unit.api.fakes import HOST

DEVICES = {"/dev/a": "8:0", "/dev/b": "8:16"}


@pytest.fixture(autouse=True)
def devices(monkeypatch):
    """Block devices of a test's own."""

    def number(path):
        if path not in DEVICES:
            raise block_limits.NoSuchDevice(f"block device {path}: no such file or directory")
        return DEVICES[path]

    monkeypatch.setattr(block_limits, "number", number)


@pytest.fixture(params=[False, True], ids=["hybrid", "v2"])
def pure(request, monkeypatch):
    monkeypatch.setattr(limits, "pure_v2", lambda: request.param)
    return request.param


def merged(**host):
    return create.merge(create.read({"Image": "host", "Cmd": ["sh"], "HostConfig": host}), HOST)


def taken(**host):
    return merged(**host)[0]


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"Ulimits": [{"Name": "files", "Soft": 1}]}, "invalid ulimit type: files"),
        ({"Ulimits": [{"Soft": 1}]}, "invalid ulimit type: "),
        (
            {"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]},
            "ulimit soft limit must be less than or equal to hard limit: nofile: 2 > 1",
        ),
        ({"Ulimits": [{"Name": "core", "Soft": -1, "Hard": 1}]}, "-1 (unlimited) > 1"),
        ({"Ulimits": [{"Name": "core", "Soft": -2}]}, "invalid ulimit core=-2:-2"),
        ({"Ulimits": [{"Name": "core", "Soft": 2**63}]}, "invalid"),
        ({"OomScoreAdj": 1001}, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
        ({"OomScoreAdj": -1001}, "range for oom score adj is [-1000, 1000]"),
        ({"CgroupParent": "/"}, "invalid cgroup parent '/'"),
        ({"CgroupParent": "a/../../b"}, "invalid cgroup parent"),
        ({"CgroupParent": "a\0b"}, "invalid cgroup parent"),
        ({"CgroupParent": "a\nb"}, "invalid cgroup parent"),
        ({"CgroupParent": "jobs/" + "a" * 256}, "invalid cgroup parent"),
        ({"CgroupParent": "/mdocker-0123abcd/x"}, "an engine's own cgroup"),
        ({"Sysctls": {"kernel.core_pattern": "|x"}}, "is not in a separate kernel namespace"),
        ({"Sysctls": {"vm.swappiness": "1"}}, '"vm.swappiness" is not in a separate kernel'),
        ({"Sysctls": {"fs.mqueuex": "1"}}, "is not in a separate kernel namespace"),
        ({"Sysctls": {"kernel.hostname": "x"}}, "conflicts with the host name"),
        ({"Sysctls": {"net": "1"}}, "invalid sysctl 'net'"),
        ({"Sysctls": {"net/../kernel/core_pattern": "x"}}, "invalid sysctl"),
        ({"Sysctls": {"net..x": "x"}}, "invalid sysctl"),
        ({"Sysctls": {"net.core.somaxconn": "1\0"}}, "invalid value of sysctl"),
        (
            {"Sysctls": {"net.core.somaxconn": "1"}, "NetworkMode": "host"},
            'sysctl "net.core.somaxconn" is not allowed in host network namespace',
        ),
        (
            {"Sysctls": {"net.core.somaxconn": "1"}, "NetworkMode": "container:x"},
            "not allowed in a network namespace that is another container's (container:x)",
        ),
        (
            {"Sysctls": {"kernel.shmmax": "1"}, "IpcMode": "host"},
            'sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace',
        ),
        (
            {"Sysctls": {"kernel.domainname": "x"}, "UTSMode": "host"},
            "is not allowed in the hosts uts namespace",
        ),
        ({"BlkioDeviceReadBps": [{"Path": "/a", "Rate": 1}]}, "bad format for device path: '/a'"),
        ({"BlkioDeviceReadBps": [{"Path": "/dev/none", "Rate": 1}]}, "block device /dev/none: no"),
        ({"BlkioDeviceWriteBps": [{"Path": "/dev/a", "Rate": -1}]}, "invalid rate for device"),
        ({"BlkioDeviceReadIOps": [{"Path": "/dev/a", "Rate": 2**32}]}, "4294967295 at most"),
        ({"BlkioWeightDevice": [{"Path": "/dev/a", "Weight": 5}]}, "invalid weight for device"),
    ],
)
def test_what_is_refused(host, words):
    with pytest.raises(BadParameter) as refusal:
        taken(**host)
    assert words in str(refusal.value)


def test_ulimits_of_a_container_and_of_the_engine():
    asked = [{"Name": "nofile", "Soft": 5, "Hard": 9}, {"Name": "core", "Soft": -1, "Hard": -1}]
    config = taken(Ulimits=[{"Name": "core", "Soft": 3}, *asked])
    assert config.ulimits == (("core", -1, -1), ("nofile", 5, 9))
    defaults = (rlimits.read("nproc=50:60"), rlimits.read("nofile=1"))
    assert kernel_limits.ulimits_of(config, defaults) == (
        Rlimit("core", 4, -1, -1),
        Rlimit("nofile", 7, 5, 9),
        Rlimit("nproc", 6, 50, 60),
    )
    assert [rlimits.written(one) for one in defaults] == ["nproc=50:60", "nofile=1:1"]


@pytest.mark.parametrize(
    "text", ["nofile", "nofile=", "nofile=x", "nofile=1:x", "x=1", "nofile=2:1"]
)
def test_a_default_ulimit_that_is_none(text):
    with pytest.raises(rlimits.UlimitRefused):
        rlimits.read(text)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
        ("net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
        ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
        ("kernel/sem", "kernel/sem"),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ("kernel.domainname", "kernel/domainname"),
    ],
)
def test_sysctls_of_its_own_namespaces(name, file):
    assert sysctls.checked(name, "", "", "") == file
    config = taken(Sysctls={name: "7"}, IpcMode="shareable", NetworkMode="none")
    assert kernel_limits.sysctl_files(config) == ((file, "7"),)


@pytest.mark.parametrize("asked", ["jobs/7", "/jobs/7", "//jobs//7/", "/./jobs/7"])
def test_a_cgroup_parent_begins_at_the_root_of_the_trees(asked):
    assert taken(CgroupParent=asked).cgroup_parent == "jobs/7"


def test_what_this_machine_has_not_is_discarded_with_a_word(pure):
    config, warnings = merged(OomKillDisable=True, KernelMemory=5, MemorySwappiness=5)
    assert config.resources.oom_kill_disable is not pure
    assert "Your kernel does not support kernel memory limit" in " ".join(warnings)
    told = "Your kernel does not support OomKillDisable. OomKillDisable discarded."
    assert (told in warnings) is pure
    assert any("no memory limit is set" in one for one in warnings) is not pure
    told = limits.warnings(wire.AskedUpdate(OomKillDisable=True, MemorySwappiness=5))
    assert len(told) == (2 if pure else 0)
    assert limits.warnings(wire.AskedHostConfig(OomKillDisable=False, KernelMemory=-1)) == []


RATE = [{"Path": "/dev/a", "Rate": 5}, {"Path": "/dev/b", "Rate": 0}]


def test_limits_of_devices_are_taken_and_told():
    weights = [{"Path": "/dev/b", "Weight": 10}]
    host = {
        **dict.fromkeys(("BlkioDeviceReadBps", "BlkioDeviceWriteBps"), RATE),
        **dict.fromkeys(("BlkioDeviceReadIOps", "BlkioDeviceWriteIOps"), RATE),
        "BlkioWeightDevice": weights,
    }
    resources = taken(**host).resources
    assert resources.device_write_iops == (("/dev/a", 5),)  # a rate of 0 is no limit
    found = kernel_limits.limits_of(resources)
    assert found.device_read_bps == found.device_write_iops == (("8:0", 5),)
    assert found.blkio_weight_devices == (("8:16", 10),)
    assert found.controllers() == ("blkio",)


def test_an_update_changes_the_devices_that_it_names():
    before = taken(BlkioDeviceReadBps=RATE).resources

    def updated(**asked):
        return updated_resources("id", msgspec.convert(asked, wire.AskedUpdate), before)

    more = [{"Path": "/dev/b", "Rate": 7}]
    assert updated(BlkioDeviceReadBps=more).device_read_bps == (("/dev/a", 5), ("/dev/b", 7))
    none = [{"Path": "/dev/a", "Rate": 0}]
    assert updated(BlkioDeviceReadBps=none) == Resources()
    weight = [{"Path": "/dev/b", "Weight": 20}]
    assert updated(BlkioWeightDevice=weight).blkio_weight_devices == (("/dev/b", 20),)
    with pytest.raises(EngineError, match="bad format"):
        updated(BlkioDeviceReadBps=[{"Path": "x", "Rate": 0}])


def test_a_device_that_is_gone_has_no_limit_to_take_back(monkeypatch):
    resources = taken(BlkioDeviceReadBps=RATE).resources
    monkeypatch.delitem(DEVICES, "/dev/a")
    assert kernel_limits.former_limits_of(resources).device_read_bps == ()
    with pytest.raises(block_limits.NoSuchDevice):
        kernel_limits.limits_of(resources)


MOUNTS = (
    "1 1 8:0 / / rw - ext4 /dev/root rw\n"
    "2 1 8:1 / /var/lib rw shared:1 - xfs /dev/vdb rw,prjquota\n"
    "3 1 8:2 / /var/lib/mdockers rw - ext4 /dev/vdc rw\n"
)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/srv", "/dev/root (ext4, mounted without project quotas)"),
        ("/var/lib/mdocker/containers", "/dev/vdb (xfs, with project quotas)"),
    ],
)
def test_a_layer_of_a_size_is_refused_with_what_it_is_on(tmp_path, monkeypatch, place, words):
    assert limit_options.file_system(place, MOUNTS) == words
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(limit_options, "MOUNTINFO", tmp_path / "mountinfo")
    with pytest.raises(Unsupported) as refusal:
        limit_options.refuse_layer_size({"size": "1G"}, place)
    assert words in str(refusal.value)
    assert "--read-only" in str(refusal.value)
    with pytest.raises(BadParameter, match="Unknown option colour"):
        limit_options.refuse_layer_size({"colour": "red"}, place)
