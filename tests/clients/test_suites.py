"""The keeper of what passes: a listed test that fails is told, and fails the run."""

from __future__ import annotations

from pathlib import Path

from tests.clients import suites

REPORT = """<testsuites><testsuite>
<testcase classname="tests.a_test.One" name="test_good" />
<testcase classname="tests.a_test.One" name="test_bad"><failure message="no&#10;more" /></testcase>
<testcase classname="tests.a_test" name="test_rest" />
<testcase classname="tests.a_test" name="test_rest"><error message="left behind" /></testcase>
<testcase classname="tests.a_test" name="test_not[a.b]"><skipped message="why" /></testcase>
<testcase classname="tests.a_test" name="test_told"><failure message="assert 1 == 0" />
<system-out>Stderr: b'mdocker does not do builds yet\\n'</system-out></testcase>
</testsuite></testsuites>"""
SUITE = suites.SUITES[0]


def test_outcomes(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    assert dict(suites._outcomes(tmp_path / "report.xml")) == {
        "tests.a_test.One.test_good": ("passed", ""),
        "tests.a_test.One.test_bad": ("failed", "no"),
        "tests.a_test.test_rest": ("failed", "left behind"),
        "tests.a_test.test_not[a.b]": ("skipped", "why"),
        "tests.a_test.test_told": ("failed", "mdocker does not do builds yet"),
    }


def test_what_is_lost_fails_the_run(capsys):
    outcomes = {"a": ("passed", ""), "b": ("failed", "why"), "c": ("passed", "")}
    assert suites._judge(SUITE, outcomes, {"a"}, record=False)
    assert "new  c" in capsys.readouterr().out
    assert not suites._judge(SUITE, outcomes, {"a", "b", "d"}, record=False)
    told = capsys.readouterr().out
    assert "LOST b: ('failed', 'why')" in told and "LOST d: ('not run', '')" in told


def test_what_failures_are_about():
    for name, why, what in (
        ("tests.test_a", "[503] This node is not a swarm manager", "swarms"),
        ("tests.test_a", "mdocker does not do creating and changing networks yet: so", "networks"),
        ("tests.test_a", "mdocker does not support HostConfig.Links yet: none", "networks"),
        ("tests.test_images.test_build_invalid", "assert 501 == 400", "builds"),
        ("tests.test_a", "mdocker does not do saving of images yet", "images as files"),
        ("tests.test_a", "mdocker does not support HostConfig.CapAdd yet", "privileges"),
        ("tests.test_a", "assert 127 == 126", "else"),
    ):
        assert suites.kind(name, why).startswith(what)


def test_names_as_pytest_takes_them(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/a_test.py").touch()
    for name, node in (
        ("tests.a_test.One.test_good", "tests/a_test.py::One::test_good"),
        ("tests.a_test.test_not[a.b]", "tests/a_test.py::test_not[a.b]"),
        ("tests.gone_test.test_x", ""),
    ):
        assert suites._node(tmp_path, name) == node


def test_a_shared_folder_is_one_and_goes_with_its_block(tmp_path):
    def mounted():
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if f" {folder} " in line]

    folder = tmp_path / "shared"
    with suites._shared_folder(folder):
        assert [" shared:" in line for line in mounted()] == [True]
    assert mounted() == []


def test_each_suite_has_its_list():
    for suite in suites.SUITES:
        names = suite.listing.read_text().splitlines()
        assert names and names == sorted(set(names))
