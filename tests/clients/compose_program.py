"""docker-compose, unchanged, in a process that has imported it once: most of a command is that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PROGRAM = shutil.which("docker-compose")

_SERVER = """
import json, os, sys, traceback
from compose.cli.main import main

def run(asked):
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = ["docker-compose", *asked["words"]]
    for number, path in enumerate((os.devnull, asked["out"], asked["err"])):
        opened = os.open(path, os.O_RDWR)
        os.dup2(opened, number)
        os.close(opened)
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    child = os.fork()
    if not child:
        run(json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def _interpreter() -> str | None:
    """Whose packages the program uses; None where it is no script."""
    if PROGRAM is None:
        return None
    with open(PROGRAM, "rb") as script:
        first = script.readline(200)
    words = first[2:].decode(errors="replace").split() if first.startswith(b"#!") else []
    return words[0] if len(words) == 1 and Path(words[0]).exists() else None


INTERPRETER = _interpreter()


class Server:
    """Runs one command after the other, each in a fork that nobody else has used."""

    def __init__(self):
        environment = {key: os.environ[key] for key in os.environ if key != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [INTERPRETER, "-c", _SERVER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def run(self, words, cwd, env):
        """Run to the end; returns (exit code, stdout, stderr)."""
        with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
            asked = {
                "words": words,
                "cwd": str(cwd),
                "env": env,
                "out": out.name,
                "err": err.name,
            }
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            code = self._process.stdout.readline()
            assert code, "docker-compose could not be imported"
            return int(code), out.read(), err.read()

    def close(self):
        self._process.communicate()
