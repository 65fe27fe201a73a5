"""`daemon --install` and `--uninstall` with a real systemd: an engine at work changes hands."""

import os
import sys

import pytest

from mdocker import service
from mdocker.errors import CliError
from mdocker.settings import Settings
from mdocker.unit_files import SERVICE, SOCKET
from tests.real import user_manager
from tests.real.engine_process import EngineProcess
from tests.real.user_manager import UserManager

pytestmark = pytest.mark.skipif(bool(user_manager.missing()), reason=user_manager.missing())


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A manager that a plain `systemctl` talks to, as root's does on a machine with systemd."""
    one = UserManager(tmp_path / "um").start()
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nexec /usr/bin/systemctl --user "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, one.environment[name])
    yield one
    one.close()


@pytest.fixture
def engine(tmp_path):
    process = EngineProcess(tmp_path / "e").start()
    yield process
    process.close()


def test_an_engine_at_work_changes_hands_and_back(manager, engine, tmp_path, capsys):
    systemd = service.Systemd(manager.units, tmp_path / "um")
    place = Settings(str(engine.root), str(engine.run_dir), str(engine.socket), True)
    container = engine.run("sleep", "1000")
    payload = engine.inspect(container)["State"]["Pid"]

    service.install(service.describe(place, (), systemd), systemd)
    assert engine.process.wait(20) == 0
    assert engine.inspect(container)["State"]["Pid"] == payload
    told = manager.show(SERVICE, "ActiveState", "MainPID", "UnitFileState")
    assert (told["ActiveState"], told["UnitFileState"]) == ("active", "enabled")
    assert told["MainPID"] == (engine.run_dir / "supervisor.pid").read_text().strip()

    # Again: as after an upgrade of the environment.
    service.install(service.describe(place, ("--debug",), systemd), systemd)
    assert engine.inspect(container)["State"]["Pid"] == payload
    assert manager.show(SERVICE, "MainPID")["MainPID"] != told["MainPID"]
    assert manager.show(SOCKET, "ActiveState") == {"ActiveState": "active"}

    service.uninstall(systemd)
    assert not engine.socket.exists()
    assert [one for one in manager.units.iterdir() if one.suffix in (".service", ".socket")] == []
    os.kill(payload, 0)
    engine.start()
    assert engine.inspect(container)["State"]["Pid"] == payload
    assert "its containers go on" in capsys.readouterr().out


def test_a_service_that_cannot_start_is_told_in_systemds_words(manager, tmp_path):
    systemd = service.Systemd(manager.units, tmp_path / "um")
    (tmp_path / "file").write_text("no directory")
    place = Settings(str(tmp_path / "file"), str(tmp_path / "run"), str(tmp_path / "s"), True)
    described = service.describe(place, (), systemd)
    command = (sys.executable, "-c", "raise SystemExit(3)", *described.command[1:])
    with pytest.raises(CliError, match=rf"'systemctl restart {SERVICE}' failed .*journalctl"):
        service.install(described._replace(command=command), systemd)
    service.uninstall(systemd)
