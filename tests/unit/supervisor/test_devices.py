"""What a start gives of the machine's devices, and what it leaves closed where it must."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from runtime.device_rules import EVERYTHING, Rule
from runtime.spec import Bind, Tmpfs
from supervisor import volumes_mounted
from supervisor.devices import DeviceMapping, Devices, granted
from supervisor.errors import EngineFault

NULL = DeviceMapping("/dev/null", "/dev/hole", "r")


def test_a_node_and_its_rule():
    given = granted(Devices((NULL,), ("c 42:* m",)), privileged=False)
    (node,) = given.nodes
    assert (node.path, node.kind, node.major, node.minor) == ("/dev/hole", "c", 1, 3)
    assert given.rules == [Rule("c", 1, 3, "r"), Rule("c", 42, None, "m")]
    assert given.device_nodes


def test_the_first_of_a_name_wins():
    other = DeviceMapping("/dev/zero", "/dev/hole")
    given = granted(Devices((NULL, other)), privileged=False)
    assert [node.minor for node in given.nodes] == [3]
    assert [rule.minor for rule in given.rules] == [3, 5]


def test_privileged_has_rules_for_everything():
    given = granted(Devices((NULL,)), privileged=True)
    assert given.rules == EVERYTHING
    paths = {node.path for node in given.nodes}
    assert "/dev/hole" in paths
    assert not paths & {"/dev/null", "/dev/console", "/dev/ptmx"}


def test_what_every_container_has_anyway():
    same = DeviceMapping("/dev/null", "/dev/null", "r")
    assert granted(Devices((same,)), privileged=False).nodes == ()
    with pytest.raises(EngineFault, match="/dev/null is every container's own"):
        granted(Devices((DeviceMapping("/dev/zero", "/dev/null"),)), privileged=False)


def test_no_such_device(tmp_path):
    for path, words in ((tmp_path / "none", "no such file"), (tmp_path, "not a device node")):
        with pytest.raises(EngineFault, match=f'custom device "{path}": {words}'):
            granted(Devices((DeviceMapping(str(path), "/x"),)), privileged=False)


@pytest.mark.parametrize("held", [True, False])
def test_binds_stay_closed_where_nothing_holds_rules(held):
    engine = SimpleNamespace(cgroups=SimpleNamespace(hold_devices=lambda: held))
    mounted = [Bind("/dev", "/d", device_nodes=True), Tmpfs("/t"), Bind("/a", "/b")]
    found = volumes_mounted._held(engine, mounted)
    assert [getattr(one, "device_nodes", None) for one in found] == [held, None, False]
    assert [one.target for one in found] == ["/d", "/t", "/b"]
