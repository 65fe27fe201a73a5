"""Clients of all kinds while supervisors are killed and upgraded at random: each byte once.

MDOCKER_COMEBACK_LINES sets how many lines are printed (15000), MDOCKER_COMEBACK_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time

import pytest

from tests.real.engine_process import EngineProcess

LINES = int(os.environ.get("MDOCKER_COMEBACK_LINES", "15000"))
SEED = int(os.environ.get("MDOCKER_COMEBACK_SEED") or time.time_ns() % 10**6)

PRINTS = f"""
i=0
while [ $i -lt {LINES} ]; do
  i=$((i+1)); echo $i
  [ $((i%50)) = 0 ] && printf 'p%s ' $i >&2
  [ $((i%500)) = 0 ] && sleep 0.05
done
exit 7
"""
OUT = "".join(f"{number}\n" for number in range(1, LINES + 1))
ERR = "".join(f"p{number} " for number in range(50, LINES + 1, 50))


class Client:
    """A command line whose output is collected as it comes."""

    def __init__(self, engine, *words):
        self.said = {}
        self.process = engine.spawn(*words)
        self._threads = [
            threading.Thread(target=self._read, args=(name,)) for name in ("stdout", "stderr")
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, name):
        self.said[name] = getattr(self.process, name).read()

    @property
    def runs(self):
        return self.process.poll() is None

    def result(self):
        """(exit code, stdout, stderr without notices of an engine that took long)."""
        code = self.process.wait(60)
        for thread in self._threads:
            thread.join(10)
        errors = re.sub(r"mdocker: the engine [^\n]*\n", "", self.said["stderr"])
        return code, self.said["stdout"], errors

    def close(self):
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(10)
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_byte_once(tmp_path, backend):
    chance = random.Random(SEED)
    engine = EngineProcess(tmp_path / "engine", backend=backend, respawn=True).start()
    clients = {}
    deaths = upgrades = 0
    try:
        rotated = {"Type": "k8s-file", "Config": {"max-size": "100k", "max-file": "1000"}}
        engine.run("sh", "-c", PRINTS, name="back", HostConfig={"LogConfig": rotated})
        shell = ("host", "sh", "-c", PRINTS)
        options = ("--log-opt", "max-size=200k", "--log-opt", "max-file=100")
        clients["removed"] = Client(engine, "run", "--rm", *shell)
        clients["kept"] = Client(engine, "run", *options, *shell)
        clients["logs"] = Client(engine, "logs", "-f", "back")
        clients["wait"] = Client(engine, "wait", "back")
        # All else is asked for again; whether a create was done when it was cut, nobody knows.
        while len(engine.get("/containers/json?all=1").json) < 3:
            assert all(client.runs for client in clients.values())
        while any(client.runs for client in clients.values()):
            time.sleep(chance.uniform(0.05, 0.8))
            if deaths and chance.random() < 0.2:
                assert engine.post("/mdocker/upgrade").status == 204
                upgrades += 1
            else:
                engine.kill()
                deaths += 1
            assert engine.answers(), engine.log_text()[-3000:]
        print(f"seed {SEED}: {deaths} deaths, {upgrades} upgrades")
        assert clients["wait"].result() == (0, "7\n", "")
        for name, code in (("removed", 7), ("kept", 7), ("logs", 0)):
            result = clients[name].result()
            assert result[0] == code, (name, clients[name].said["stderr"][-500:])
            assert result[1] == OUT, name
            assert result[2] == ERR, name
        assert deaths
    finally:
        print(f"seed {SEED}")
        for client in clients.values():
            client.close()
        engine.close()
