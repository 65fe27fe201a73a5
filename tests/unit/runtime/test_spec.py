"""The spec's two readers: `Spec.from_json` and the shim's `compile_plan`."""

from __future__ import annotations

import dataclasses
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import flags
from runtime.plan import compile_plan
from runtime.spec import (
    DEFAULT_CAPABILITIES,
    DEFAULT_PATH,
    Bind,
    CgroupPlan,
    Device,
    Rlimit,
    Spec,
    Tmpfs,
)

SPEC = Spec(
    id="c1",
    args=("sh", "-c", "true"),
    env=("A=1", "B=x=y", "A=2", "PATH"),
    cwd="/tmp",
    user="bird:flock",
    groups=("herd", "31"),
    hostname="box",
    domainname="wood",
    lower=("/top", "/bottom"),
    upper="/c/upper",
    work="/c/work",
    merged="/c/merged",
    binds=(
        Bind("/a", "/b", readonly=True),
        Bind("/c", "/d", directory=True, propagation="slave", recursive=False, subpath="s"),
        Tmpfs("/t", ("size=1m",), 2),
        Bind("/v", "/w", fill=True, shifted=True),
    ),
    readonly_root=True,
    network="host",
    capabilities=("CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"),
    no_new_privileges=True,
    seccomp="BgAAAAAA/38=",
    seccomp_flags=2,
    apparmor="nest",
    masked_paths=("/m",),
    readonly_paths=("/r",),
    shm_size=12345,
    rlimits=(Rlimit("nofile", 7, 10, 20), Rlimit("core", 4, -1, -1)),
    oom_score_adj=-5,
    sysctls=(("net/ipv4/ip_forward", "1"), ("kernel/sem", "1 2 3 4")),
    devices=(
        Device("/dev/net/tun", "c", 10, 200, 0o666, 3, 4),
        Device("/opt/disk", "b", 7, 300),
    ),
    device_nodes=True,
    cgroup=CgroupPlan("/cg/c1", ("/v1/memory/engine/c1",)),
    volatile=True,
)
SMALL = Spec(
    id="c", args=("x",), lower=("/l",), upper="u", work="w", merged="/m", cgroup=CgroupPlan("/cg")
)


@pytest.mark.parametrize("spec", [SPEC, SMALL])
def test_json_both_ways(spec):
    assert Spec.from_json(spec.to_json()) == spec


@given(st.text(), st.lists(st.text(), min_size=1), st.integers(0, 2**40))
def test_json_both_ways_whatever_the_text(text, words, number):
    spec = dataclasses.replace(SPEC, user=text, args=tuple(words), shm_size=number)
    assert Spec.from_json(spec.to_json()) == spec


def test_an_unknown_field_is_refused():
    with pytest.raises(TypeError):
        Spec.from_json(SMALL.to_json().replace(b'"user":', b'"usr":'))


def test_every_field_reaches_the_plan():
    plan = compile_plan(SPEC.to_json())
    assert (plan.id, plan.args, plan.cwd) == ("c1", [b"sh", b"-c", b"true"], b"/tmp")
    assert plan.env == {b"A": b"2", b"B": b"x=y", b"HOSTNAME": b"box"}
    assert (plan.user, plan.hostname, plan.domainname) == (b"bird:flock", b"box", b"wood")
    assert plan.groups == [b"herd", b"31"]
    assert (plan.lower, plan.upper, plan.work) == ([b"/top", b"/bottom"], b"/c/upper", b"/c/work")
    assert (plan.merged, plan.volatile, plan.host_network) == (b"/c/merged", True, True)
    first, second, tmpfs, volume = plan.binds
    assert (first.source, first.target, first.readonly) == (b"/a", b"/b", True)
    assert (first.directory, first.propagation, first.recursive) == (None, "", True)
    assert (second.directory, second.propagation, second.recursive) == (True, "slave", False)
    assert (second.subpath, second.fill, volume.fill) == (b"s", False, True)
    assert (second.shifted, volume.shifted) == (False, True)
    assert (tmpfs.target, tmpfs.options, tmpfs.attributes) == (b"/t", [b"size=1m"], 2)
    assert plan.rlimits == [("nofile", 7, 10, 20), ("core", 4, -1, -1)]
    assert plan.oom_score_adj == b"-5"
    assert plan.sysctls == [
        (b"/proc/sys/net/ipv4/ip_forward", b"1"),
        (b"/proc/sys/kernel/sem", b"1 2 3 4"),
    ]
    assert plan.readonly_root
    assert (plan.keep, plan.no_new_privileges) == (1 | 1 << 40, True)
    assert (plan.filter, plan.filter_flags) == (bytes.fromhex("060000000000ff7f"), 2)
    assert (plan.apparmor, plan.keyring) == (b"nest", b"_ses.c1")
    assert (plan.masked, plan.readonly) == ([b"/m"], [b"/r"])
    assert plan.unified == b"/cg/c1"
    assert plan.joins == [b"/v1/memory/engine/c1/cgroup.procs"]
    inside, elsewhere = plan.nodes
    assert (inside.inside, elsewhere.inside, plan.nodev) == (b"net/tun", b"", 0)
    assert (inside.mode, inside.number) == (stat.S_IFCHR | 0o666, os.makedev(10, 200))
    assert (elsewhere.mode, elsewhere.number) == (stat.S_IFBLK | 0o600, os.makedev(7, 300))
    assert (inside.uid, inside.gid, elsewhere.path) == (3, 4, b"/opt/disk")
    assert compile_plan(SMALL.to_json()).nodev == flags.MS_NODEV
    shm = next(mount for mount in plan.early if mount[1] == b"/c/merged/dev/shm")
    assert shm[4] == b"mode=1777,size=12345"
    assert plan.cgroup_directories == [
        b"/c/merged/sys/fs/cgroup/unified",
        b"/c/merged/sys/fs/cgroup/memory",
    ]


def test_no_field_is_forgotten():
    """A field that `compile_plan` does not read would be parsed and ignored."""
    text = SPEC.to_json()
    for field in dataclasses.fields(Spec):
        without = text.replace(f'"{field.name}":'.encode(), f'"no_{field.name}":'.encode())
        with pytest.raises(KeyError, match=field.name):
            compile_plan(without)


def test_defaults():
    plan = compile_plan(SMALL.to_json())
    assert plan.env == {b"PATH": DEFAULT_PATH.encode()}
    assert (plan.cwd, plan.user, plan.host_network, plan.joins) == (b"/", b"", False, [])
    assert plan.keep == 0xA80425FB
    assert len(DEFAULT_CAPABILITIES) == 14


def test_bytes_that_are_no_text_pass_through():
    name = b"\xff\xfe".decode("utf-8", "surrogateescape")
    plan = compile_plan(dataclasses.replace(SMALL, args=(name,)).to_json())
    assert plan.args == [b"\xff\xfe"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"args": ()}, "no command specified"),
        ({"args": ("",)}, "no command specified"),
        ({"args": ("a\0b",)}, "NUL"),
        ({"network": "bridge"}, "unknown network bridge"),
        ({"capabilities": ("CAP_FLY",)}, "unknown capability CAP_FLY"),
        ({"env": ("=x",)}, "has no name"),
        ({"seccomp": "AAAA"}, "no array of struct sock_filter"),
        ({"seccomp": "AAAAA"}, "base64"),
    ],
)
def test_what_no_plan_can_be_made_of(change, words):
    with pytest.raises(ValueError, match=words):
        compile_plan(dataclasses.replace(SMALL, **change).to_json())


def test_nothing_but_pts_and_the_bound_nodes_is_mounted_with_devices():
    plan = compile_plan(SPEC.to_json())
    free = {
        target
        for _, target, _, bits, _ in (*plan.early, *plan.cgroup_mounts)
        if not bits & (flags.MS_NODEV | flags.MS_BIND)
    }
    assert free == {b"/c/merged/dev/pts"}
    remounts = [bits for _, _, _, bits, _ in plan.devices if bits & flags.MS_REMOUNT]
    assert len(remounts) == len(plan.devices) // 2
    assert all(bits & flags.MS_RDONLY for bits in remounts)
