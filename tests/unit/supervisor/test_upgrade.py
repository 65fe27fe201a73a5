"""Whether an upgrade is agreed upon; the upgrade itself is in tests/real/test_upgrade.py."""

import sys
from pathlib import Path

import pytest

from runtime import rlimits
from supervisor import succession
from supervisor.config import Settings
from supervisor.errors import Conflict, EngineFault
from supervisor.upgrade import Upgrade

pytestmark = pytest.mark.anyio


def one(monkeypatch, program, stalls=dict):
    monkeypatch.setattr(succession, "arguments", lambda settings: [sys.executable, "-c", program])
    return Upgrade(Settings(Path("/root"), Path("/run")), stalls)


async def test_a_version_that_starts_is_agreed_upon(monkeypatch):
    upgrade = one(monkeypatch, "import sys; assert sys.argv[1:] == ['--check']")
    await upgrade.ask()
    await upgrade.ask()
    assert upgrade.agreed.is_set()


async def test_a_version_that_does_not_start_is_refused_in_its_own_words(monkeypatch):
    upgrade = one(monkeypatch, "raise SystemExit('some\\nlines\\nmdocker daemon: it needs more')")
    with pytest.raises(EngineFault, match="does not start: mdocker daemon: it needs more"):
        await upgrade.ask()
    assert not upgrade.agreed.is_set()


async def test_not_while_a_disk_hangs(monkeypatch):
    upgrade = one(monkeypatch, "", lambda: {"c0ffee" * 10: 3.5})
    with pytest.raises(Conflict, match="hangs: c0ffeec0ffee"):
        await upgrade.ask()
    assert not upgrade.agreed.is_set()


def test_the_words_that_start_another_say_all_that_was_asked_for():
    settings = Settings(
        *(Path("/root"), Path("/run"), "trio"),
        debug=True,
        respawn=False,
        userns_remap="me:us",
        no_new_privileges=True,
        default_ulimits=(rlimits.read("core=5:-1"),),
    )
    words = succession.arguments(settings)
    assert words[1:6] == ["-m", "mdocker", "daemon", "--root", "/root"]
    remapped = ["--userns-remap", "me:us", "--no-new-privileges"]
    process = ["--run-dir", "/run", "--backend", "trio", "--no-respawn", "--debug"]
    limited = ["--default-ulimit", "core=5:-1"]
    assert words[6:] == [*process, *limited, *remapped]
