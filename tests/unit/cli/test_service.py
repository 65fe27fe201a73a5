"""The units, and what --install does with a systemctl of the test's own."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mdocker import service, unit_files
from mdocker.binding import parse, shape_of
from mdocker.commands.daemon import daemon
from mdocker.launch import launch
from mdocker.service import ServiceRefused, Systemd
from mdocker.settings import resolve
from mdocker.unit_files import MARK, SERVICE, SOCKET, BadPath, Service

ORDINARY = Service(
    command=("/opt/venv/bin/python", "-m", "mdocker", "daemon", "--no-respawn", "--root", "/r"),
    upgrade=("/opt/venv/bin/python", "-m", "mdocker", "daemon", "--upgrade"),
    directory="/opt/venv/lib/python3.11/site-packages",
    root="/r",
    socket="/run/m/mdocker.sock",
    group="docker",
    systemd=252,
)
STRANGE = ORDINARY._replace(
    command=("/opt/my own 100% $HOME;venv/bin/python", *ORDINARY.command[1:-1], '/r "o" $o \\t'),
    directory="/opt/a b/100%",
    root="/r o o t",
    socket="/run/a b/mdocker.sock",
)


def values(text, key):
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


@pytest.mark.parametrize(
    "described",
    [
        ORDINARY,
        STRANGE,
        ORDINARY._replace(systemd=256),
        ORDINARY._replace(further=("/run/docker 1%.sock", "0.0.0.0:2376", "[::1]:2376"), group="0"),
    ],
)
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze (systemd)")
def test_systemd_takes_the_units_without_a_word(tmp_path, described):
    """`systemd-analyze verify` asks for programs that are there, so they get some."""
    made = []
    for word in (described.command[0], described.upgrade[0]):
        program = tmp_path / "bin" / Path(word).relative_to("/")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        made.append(str(program))
    described = described._replace(
        command=(made[0], *described.command[1:]), upgrade=(made[1], *described.upgrade[1:])
    )
    (tmp_path / SERVICE).write_text(unit_files.service_unit(described))
    (tmp_path / SOCKET).write_text(unit_files.socket_unit(described))
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / SERVICE, tmp_path / SOCKET],
        capture_output=True,
        text=True,
        check=False,
    )
    newer = described.systemd >= 254
    said = [line for line in done.stderr.splitlines() if not (newer and "Unknown key" in line)]
    assert (done.returncode, said) == (0, [])


def test_paths_are_spelled_as_systemd_reads_them():
    text = unit_files.service_unit(STRANGE)
    assert values(text, "ExecStart")[0].startswith(
        '"/opt/my own 100%% $HOME;venv/bin/python" -m mdocker daemon --no-respawn'
    )
    assert values(text, "ExecStart")[0].endswith('--root "/r \\"o\\" $$o \\\\t"')
    assert values(text, "WorkingDirectory") == ["/opt/a b/100%%"]
    assert values(text, "RequiresMountsFor") == ['"/r o o t"']
    assert values(unit_files.socket_unit(STRANGE), "ListenStream") == ["/run/a b/mdocker.sock"]


@pytest.mark.parametrize("program", ['/opt/"venv"/bin/python', "/opt/a'b/python", "/opt/a\\b"])
def test_a_program_that_systemd_would_not_execute_is_refused(program):
    with pytest.raises(BadPath, match="executes nothing with quotes"):
        unit_files.service_unit(ORDINARY._replace(command=(program, *ORDINARY.command[1:])))


@pytest.mark.parametrize("path", ["/a\nExecStartPre=/bin/evil", "/a\x00", "/a\x7f", "/a ", " /a"])
def test_a_path_that_would_be_another_line_is_refused(path):
    for described in (
        ORDINARY._replace(root=path),
        ORDINARY._replace(directory=path),
        ORDINARY._replace(command=(path, *ORDINARY.command[1:])),
    ):
        with pytest.raises(BadPath, match="plainer path"):
            unit_files.service_unit(described)
    with pytest.raises(BadPath):
        unit_files.socket_unit(ORDINARY._replace(socket=path))


def test_the_unit_says_what_the_issue_asks_for():
    text = unit_files.service_unit(ORDINARY)
    for key, value in {
        "Type": "notify",
        "KillMode": "process",
        "Restart": "always",
        "Delegate": "yes",
        "WatchdogSec": "60",
        "LimitNOFILE": "1048576",
        "TasksMax": "infinity",
        "Requires": SOCKET,
    }.items():
        assert values(text, key) == [value]
    assert "RestartSteps" not in text
    assert values(unit_files.service_unit(ORDINARY._replace(systemd=254)), "RestartSteps") == ["8"]


def test_the_command_is_this_very_mdocker_and_its_options_are_known(tmp_path):
    described = service.describe(
        resolve(root=str(tmp_path / "r"), run_dir="run"), ("--backend", "trio"), Systemd()
    )
    assert described.command[:4] == (sys.executable, "-m", "mdocker", "daemon")
    assert described.command[-2:] == ("--backend", "trio")
    for command in (described.command, described.upgrade):
        options = parse(command[4:], shape_of(daemon).options)
        assert options.words == []
        given = {option.field: value for option, value in options.values}
        assert given["run_dir"] == os.path.abspath("run")
    done = subprocess.run(
        [described.command[0], "-m", "mdocker", "--version"],
        cwd=described.directory,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "mdocker" in done.stdout


def test_systemd_listens_where_the_engine_is_to_listen():
    """What it can't, since it resolves no names and chooses no ports, the engine does itself."""
    hosts = (
        *("unix:///run/docker.sock", "tcp://0.0.0.0:2376", "tcp://[::]:99", "tcp://[::1]"),
        *("tcp://box:1", "tcp://10.0.0.1", "tcp://10.0.0.1:0"),
    )
    described = service.describe(resolve(run_dir="/d"), (), Systemd(), hosts, "4711")
    text = unit_files.socket_unit(described)
    assert values(text, "ListenStream") == [
        *("/d/mdocker.sock", "/run/docker.sock", "0.0.0.0:2376", "[::]:99"),
    ]
    assert values(text, "SocketGroup") == ["4711"]
    described = service.describe(resolve(run_dir="/d"), (), Systemd(), (), "")
    assert values(unit_files.socket_unit(described), "SocketGroup") == ["root"]


def test_an_engine_that_would_not_start_is_not_installed(tmp_path, capsys):
    """It is tried before anything else is."""
    words = ("--host", "tcp://127.0.0.1:1", "--root", str(tmp_path), "--run-dir", str(tmp_path))
    assert launch(["daemon", "--install", *words]) != 0
    assert "add --tlsverify with --tlscacert" in capsys.readouterr().err


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """A systemd that only writes down what it is told, and fails where a test says so."""
    (tmp_path / "booted").mkdir()
    (tmp_path / "units").mkdir()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "systemctl"
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/told\n'
        f'if [ "$1" = "$(cat {tmp_path}/fails 2>/dev/null)" ]; then echo "Unit is masked." >&2; '
        "exit 4; fi\n"
        f'[ "$1" != show ] || cat {tmp_path}/main-pid 2>/dev/null || echo 0\n'
        "[ \"$1\" != --version ] || echo 'systemd 252 (252.38-1)'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return Systemd(tmp_path / "units", tmp_path / "booted")


def told(systemd):
    try:
        return (systemd.units.parent / "told").read_text().splitlines()
    except FileNotFoundError:
        return []


def described(tmp_path):
    return ORDINARY._replace(socket=str(tmp_path / "mdocker.sock"))


def test_install_and_uninstall(systemd, tmp_path, capsys):
    service.install(described(tmp_path), systemd)
    assert (systemd.units / SERVICE).read_text().startswith(MARK)
    assert sorted(path.name for path in systemd.units.iterdir()) == [SERVICE, SOCKET]
    assert told(systemd) == [
        "daemon-reload",
        f"enable {SOCKET} {SERVICE}",
        f"show --property=MainPID --value {SERVICE}",
        f"start {SOCKET}",
        f"restart {SERVICE}",
    ]
    assert "enabled and running" in capsys.readouterr().out
    service.uninstall(systemd)
    assert list(systemd.units.iterdir()) == []
    assert told(systemd)[5:] == [f"disable --now {SERVICE} {SOCKET}", "daemon-reload"]
    with pytest.raises(ServiceRefused, match="nothing to take away"):
        service.uninstall(systemd)


def test_installed_anew_at_another_place_the_socket_moves(systemd, tmp_path):
    service.install(described(tmp_path), systemd)
    service.install(described(tmp_path), systemd)
    assert f"stop {SERVICE} {SOCKET}" not in told(systemd)
    service.install(described(tmp_path)._replace(socket=str(tmp_path / "other")), systemd)
    assert f"stop {SERVICE} {SOCKET}" in told(systemd)


def test_a_unit_of_somebody_elses_is_left_alone(systemd, tmp_path):
    (systemd.units / SOCKET).write_text("[Socket]\nListenStream=/x\n")
    for do in (lambda: service.install(described(tmp_path), systemd),
               lambda: service.uninstall(systemd)):  # fmt: skip
        with pytest.raises(ServiceRefused, match="is not mdocker's"):
            do()
    assert told(systemd) == []
    assert not (systemd.units / SERVICE).exists()


@pytest.mark.parametrize("verb", ["daemon-reload", "enable", "start", "restart"])
def test_what_systemctl_refuses_is_told_in_its_words(systemd, tmp_path, verb):
    (tmp_path / "fails").write_text(verb)
    with pytest.raises(ServiceRefused, match=rf"'systemctl {verb}.*' failed with 4: Unit is mask"):
        service.install(described(tmp_path), systemd)


def test_a_disk_that_refuses_the_unit(systemd, tmp_path):
    shutil.rmtree(systemd.units)
    with pytest.raises(ServiceRefused, match=r"cannot write .*: No such file or directory"):
        service.install(described(tmp_path), systemd)


def test_where_no_systemd_is(systemd, tmp_path, monkeypatch):
    systemd.booted.rmdir()
    for do in (lambda: service.install(described(tmp_path), systemd),
               lambda: service.uninstall(systemd)):  # fmt: skip
        with pytest.raises(ServiceRefused, match="no systemd runs this machine"):
            do()
    assert list(systemd.units.iterdir()) == []


def test_only_root_installs(systemd, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ServiceRefused, match="use sudo"):
        service.install(described(tmp_path), systemd)


ENGINE = """
import fcntl, os, sys
lock = os.open(sys.argv[1] + "/supervisor.lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
open(sys.argv[1] + "/supervisor.pid", "w").write(str(os.getpid()))
print("holds it", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Something that holds the run directory as an engine does."""
    with subprocess.Popen(
        [sys.executable, "-c", ENGINE, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as engine:
        engine.stdout.readline()
        yield engine
        engine.kill()


def test_an_engine_that_runs_already_is_ended(systemd, tmp_path, holder, capsys):
    service.install(described(tmp_path), systemd)
    assert holder.wait(20) == -signal.SIGTERM
    assert f"(pid {holder.pid}) has ended; its containers go on" in capsys.readouterr().out


def test_the_services_own_engine_is_systemds_to_restart(systemd, tmp_path, holder):
    (tmp_path / "main-pid").write_text(str(holder.pid))
    service.install(described(tmp_path), systemd)
    assert holder.poll() is None


def test_a_pid_that_nobody_holds_the_lock_for_is_left_alone(systemd, tmp_path, holder):
    """The file of an engine that was killed names a process that may be anybody's by now."""
    (tmp_path / "supervisor.lock").unlink()
    (tmp_path / "supervisor.lock").touch()
    service.install(described(tmp_path), systemd)
    assert holder.poll() is None


def test_what_others_can_change_is_warned_of(systemd, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(service, "PACKAGES", tmp_path)
    (tmp_path / "mdocker").mkdir()
    os.chmod(tmp_path / "mdocker", 0o777)
    service.install(described(tmp_path), systemd)
    assert f"{tmp_path}/mdocker can be changed by others than root" in capsys.readouterr().err


def test_a_dry_run_prints_both_and_asks_nobody(mdocker, engine):
    code, out, err = mdocker("daemon", "--install", "--dry-run", "--root", "/somewhere")
    assert (code, err) == (0, "")
    assert out.count(MARK) == 2
    assert f"# /etc/systemd/system/{SERVICE}" in out
    assert "--root /somewhere" in out
    assert engine.requests == []


def test_a_service_has_containers_remapped_as_it_was_told(mdocker):
    words = ("--userns-remap", "bird:flock")
    _, out, _ = mdocker("daemon", "--install", "--dry-run", *words)
    command = next(line for line in out.splitlines() if line.startswith("ExecStart="))
    assert command.endswith(" ".join(words))


def test_a_service_reaches_registries_as_it_was_told(mdocker):
    words = (
        *("--registry-mirror", "https://nest", "--insecure-registry", "a:1"),
        *("--insecure-registry", "10.0.0.0/8", "--max-concurrent-uploads", "2"),
    )
    _, out, _ = mdocker("daemon", "--install", "--dry-run", *words)
    command = next(line for line in out.splitlines() if line.startswith("ExecStart="))
    assert command.endswith(" ".join(words))


@pytest.mark.parametrize(
    "words",
    [
        ["--upgrade", "--dry-run"],
        ["--upgrade", "--install"],
        ["--upgrade", "--check"],
        ["--upgrade", "--backend", "trio"],
        ["--upgrade", "--registry-mirror", "https://nest"],
        ["--upgrade", "--userns-remap", "default"],
        ["--uninstall", "--max-concurrent-downloads", "1"],
        ["--install", "--uninstall"],
        ["--install", "--check"],
        ["--install", "--no-respawn"],
        ["--uninstall", "--ready-fd", "3"],
        ["--uninstall", "--dry-run"],
        ["--dry-run"],
        ["--no-wait"],
    ],
)
def test_nothing_is_read_and_ignored(mdocker, engine, monkeypatch, words):
    """Found by hand: --upgrade --dry-run did the upgrade."""
    monkeypatch.setattr("mdocker.commands.daemon._ENGINE", "builtins:print")  # no real one
    code, _, err = mdocker("daemon", *words)
    assert code == 1
    assert any(word in err for word in words)
    assert "See 'mdocker daemon --help'" in err
    assert engine.requests == []
