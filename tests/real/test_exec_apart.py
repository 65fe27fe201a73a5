"""Who enters a container that may trace others is in nobody's hands, and as any other exec."""

from __future__ import annotations

import os
import select
import signal

import pytest

from runtime import shim_protocol as protocol
from runtime.spec import DEFAULT_CAPABILITIES
from tests.real.exec_driver import entered, execute
from tests.real.shim_driver import ShimDriver, busybox_tree

TRACING = (*DEFAULT_CAPABILITIES, "CAP_SYS_PTRACE")

# Builtins, but for what the shim's child may have in its memory: whoever enters is there for a
# millisecond.
SPY = """
own= ; while read key value; do [ "$key" = CapPrm: ] && own=$value; done < /proc/self/status
echo ready
while :; do
    for one in /proc/[0-9]*; do
        [ -e $one/root$MARK ] && echo "the machine's files"
        while read key value; do
            [ "$key" = CapPrm: ] && [ "$value" != $own ] && [ "$value" != 0000000000000000 ] &&
                echo "more rights"
        done < $one/status
    done
    grep -hom1 mdocker-birth /proc/[0-9]*/maps
done 2>/dev/null
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shim")
    driver = ShimDriver(directory, busybox_tree(directory / "lower"))
    yield driver
    driver.close()


@pytest.fixture
def driver(shim):
    yield shim
    shim.forget_all()


@pytest.fixture
def tracer(driver):
    started = driver.start("sleep", "1000", capabilities=TRACING)
    assert started.failure() is None
    return started


def spied(driver, tmp_path, most, **exec_spec):
    """What a container sees that looks at all who enter, `most` of them or until it sees enough."""
    mark = tmp_path / "mark"
    mark.touch()
    spy = driver.start("sh", "-c", SPY, env=(f"MARK={mark}",), capabilities=TRACING)
    assert spy.readline() == "ready\n"
    for _ in range(most):
        assert execute(driver, spy, "echo in", capabilities=TRACING, **exec_spec) == "in\n"
        if select.select([spy.end_of("stdout")], [], [], 0)[0]:
            break
    spy.kill()
    return set(spy.output().splitlines())


def test_nobody_inside_sees_the_machine_by_who_enters(driver, tmp_path):
    assert spied(driver, tmp_path, 25, apart=True) == set()


@pytest.mark.parametrize("way", [{}, {"layers": ()}], ids=["fast", "python"])
def test_by_an_ordinary_exec_they_would(driver, tmp_path, way):
    assert spied(driver, tmp_path, 400, **way)


def test_it_is_as_any_other_exec(driver, tracer):
    script = """
        id; pwd; umask; echo $PPID; ls /proc/$$/fd
        grep -e Sig[BIC] -e Cap -e NoNew /proc/self/status
        cut -d' ' -f 5-6 /proc/$$/stat | tr -d "$$"; cat /proc/self/limits /proc/self/oom_score_adj
        env; for n in mnt pid uts ipc net cgroup user; do readlink /proc/self/ns/$n; done
        readlink /proc/$$/fd/0
    """
    for more in ({}, {"user": "bird", "cwd": "/tmp", "no_new_privileges": True, "env": ("A=b",)}):
        common = {"capabilities": TRACING, "container": tracer.id, **more}
        usual = execute(driver, tracer, script, layers=(), **common)
        assert execute(driver, tracer, script, apart=True, **common) == usual
        assert "root" in usual or "bird" in usual


def test_its_streams_and_its_end(driver, tracer):
    def ended(*args, **more):
        with entered(driver, tracer, *args, apart=True, **more) as one:
            assert one.failure() is None
            return one.output(), one.errors(), one.status()

    assert ended("cat", stdin=b"typed") == ("typed", "", 0)
    assert ended("sh", "-c", "echo out; echo err >&2; exit 7") == ("out\n", "err\n", 7 << 8)
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSEGV):
        _, _, status = ended("sh", "-c", f"kill -{number} $$")
        assert os.WTERMSIG(status) == number
    # Its own end of a pipe is the last one: nobody outside holds another.
    closing = ("sh", "-c", "exec >&- 2>&-; sleep 1000")
    with entered(driver, tracer, *closing, apart=True) as one:
        assert (one.output(), one.errors()) == ("", "")
        (one.cgroup / "cgroup.kill").write_text("1")
        assert os.WTERMSIG(one.status()) == signal.SIGKILL


def test_it_is_the_shim_s_own_child_and_told_as_such(driver, tracer):
    with entered(driver, tracer, "sh", "-c", "echo in; exec sleep 1000", apart=True) as one:
        assert one.readline() == "in\n"
        # Who entered has gone, and nobody else but the command is there.
        told = driver.receive(protocol.Execed)
        assert (told.id, one.pids()) == (one.id, {told.pid}) and told.pid != one.pid
        assert told.pid in driver.children()
        signal.pidfd_send_signal(told.pidfd, signal.SIGKILL)
        os.close(told.pidfd)
        assert os.WTERMSIG(one.status()) == signal.SIGKILL
        assert one.pids() == set()


def test_killed_whenever_nothing_is_left(driver, tracer):
    fds, children = driver.shim_fds(), driver.children()
    for _ in range(12):
        with entered(driver, tracer, "sleep", "1000", apart=True) as one:
            (one.cgroup / "cgroup.kill").write_text("1")
            assert os.WTERMSIG(one.status()) == signal.SIGKILL
    assert (driver.shim_fds(), driver.children()) == (fds, children)


@pytest.mark.parametrize(
    ("args", "spec", "words", "code"),
    [
        (("nosuch",), {}, "executable file not found", 127),
        (("/plain",), {}, "permission denied", 126),
        (("true",), {"user": "nobody"}, "unable to find user nobody", 125),
        (("true",), {"cwd": "/nowhere"}, "/nowhere", 127),
    ],
)
def test_what_fails_is_told(driver, tracer, args, spec, words, code):
    with entered(driver, tracer, *args, apart=True, **spec) as one:
        failure = one.failure()
        assert (words in failure["words"], failure["exit_code"]) == (True, code), failure
        assert one.status() == code << 8
