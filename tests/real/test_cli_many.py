"""Command lines about many containers at once, against a real engine."""

from __future__ import annotations

import subprocess
import sys

from tests.real.engine_process import CHECKOUT

SLEEP = ("sleep", "600")


def mdocker(engine, *words):
    """Run to the end, which must be good; returns stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "mdocker", *words],
        cwd=CHECKOUT, env=engine.environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    return done.stdout


def test_watching(engine):
    with engine.spawning() as spawn:
        shown = spawn(
            "ps", "--watch", "-f", "label=seen", "--format", "{{.Names}} {{.State}}", "-a"
        )

        def until(line):
            for seen in shown.stdout:
                if seen == line + "\n":
                    return

        bird = engine.run(*SLEEP, name="bird", Labels={"seen": "1"})
        until("bird running")
        engine.post(f"/containers/{bird}/rename?name=crow")
        until("crow running")
        engine.post(f"/containers/{bird}/kill")
        until("crow exited")
        engine.delete(f"/containers/{bird}")
        engine.run("true", name="bee", Labels={"seen": "1"})
        until("bee exited")
    engine.delete("/containers/bee")


def test_all_and_filter(engine):
    for name in ("a1", "a2", "b1"):
        engine.create("sh", "-c", f"echo {name} says hello; echo other; exec sleep 600", name=name,
                      Labels={"kind": name[0]})  # fmt: skip
    assert sorted(mdocker(engine, "start", "--filter", "label=kind=a").split()) == ["a1", "a2"]
    assert mdocker(engine, "start", "--all") == "b1\n"
    following = ("logs", "-f", "--all", "--grep", "says (hello|hi)$")
    with engine.spawning() as spawn:
        process = spawn(*following)
        lines = sorted(process.stdout.readline() for _ in range(3))
    assert lines == [f"{name} | {name} says hello\n" for name in ("a1", "a2", "b1")]
    assert mdocker(engine, "stop", "-t", "0", "--filter", "name=b") == "b1\n"
    assert sorted(mdocker(engine, "kill", "--all").split()) == ["a1", "a2"]
    for name in ("a1", "a2"):
        engine.wait(name)
    assert mdocker(engine, "rm", "--filter", "label=kind=b") == "b1\n"
    assert sorted(mdocker(engine, "rm", "--all").split()) == ["a1", "a2"]
    assert mdocker(engine, "rm", "--all") == ""


def test_a_tab(engine):
    engine.run(*SLEEP, name="tabby")
    answer = mdocker(engine, "__complete", "fish", "stop", "ta")
    assert answer.startswith("words\ntabby\thost, Up ")
    engine.delete("/containers/tabby?force=1")
