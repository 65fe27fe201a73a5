"""Random commands and deaths against one engine, and after each step a look at everything.

The model says what must be true; the look compares it with `ps`, `inspect`, config.json, the logs,
/proc and the cgroups. `MDOCKER_FAULTS=10 pytest tests/faults` tries ten times as many examples.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from supervisor import store
from tests.real.engine_process import EngineProcess, cgroups_of
from tests.soak.leftovers import behind, settled, takes

SCALE = int(os.environ.get("MDOCKER_FAULTS", "1"))
MOST_CONTAINERS = 4
NUMBERS = itertools.count()

SCRIPTS = {
    # What it runs, and with which code it ends at SIGTERM; a first process without a handler
    # ignores it, so that SIGKILL has to follow.
    "polite": ("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 1000 & wait; done", 3),
    "deaf": ("echo up; exec sleep 1000", 137),
    "quick": ("echo up; exit 7", None),
}

MOST_RETRIES = 2
POLICIES = {
    name: {"Name": name, "DelayMs": 20, "MaxDelayMs": 100}
    for name in ("always", "unless-stopped", "on-failure")
}
LONG_S = 30.0


@dataclass
class Model:
    """What we know of one container.

    Attributes:
        policy: Its restart policy.
        state: "created", "running", "exited", or "ending": its end is near and not yet seen.
        written: What its standard output must be.
        pid: Of the run under way, which no death may change.
    """

    id: str
    name: str
    kind: str
    policy: str = "no"
    state: str = "created"
    code: int = 0
    written: list[bytes] = field(default_factory=list)
    pid: int = 0

    @property
    def may_be(self):
        near_its_end = {"running", "restarting", "exited"}
        return near_its_end if self.state == "ending" else {self.state}

    @property
    def comes_back(self):
        """Whether it is started again where it is killed by somebody else."""
        return self.policy != "no"


class Containers(RuleBasedStateMachine):
    """One engine for all examples (a class attribute): each example ends with it empty."""

    engine = None
    baseline = None

    def __init__(self):
        super().__init__()
        self.models = []
        self.steps = []

    @classmethod
    def use(cls, engine):
        """Take this engine for all examples, with everything in place that stays for good."""
        for _ in range(3):
            engine.result("true")
        cls.engine = engine
        cls.baseline = (takes(engine.supervisor_pid), takes(engine.shim_pid))

    def pick(self, data, *states):
        fitting = [m for m in self.models if not states or m.state in states]
        model = data.draw(st.sampled_from(fitting), label="container") if fitting else None
        self.did(model)
        return model

    def did(self, what):
        """Remember which rule is at work, and on what."""
        self.steps.append(f"{sys._getframe(2).f_code.co_name} {what}")

    def post(self, model, verb, status):
        answer = self.engine.post(f"/containers/{model.id}/{verb}")
        assert answer.status == status, (verb, model, answer)

    # ── commands ────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: len(self.models) < MOST_CONTAINERS)
    @rule(kind=st.sampled_from(sorted(SCRIPTS)), policy=st.sampled_from(("no", *POLICIES)))
    def create(self, kind, policy):
        if kind == "quick" and policy != "no":
            policy = "on-failure"  # `always` would go on for ever
        limit = {"MaximumRetryCount": MOST_RETRIES if kind == "quick" else 0}
        name = f"bird-{next(NUMBERS)}"
        host = {"RestartPolicy": POLICIES[policy] | limit} if policy != "no" else {}
        script = SCRIPTS[kind][0]
        container = self.engine.create("sh", "-c", script, name=name, HostConfig=host)
        self.models.append(Model(container, name, kind, policy))

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def start(self, data):
        model = self.pick(data, "created", "exited")
        if model is not None:
            self.post(model, "start", 204)
            self.has_started(model)

    def has_started(self, model):
        model.written.append(b"up\n")
        model.state = "ending" if model.kind == "quick" else "running"
        if model.kind != "quick":
            path = f"/containers/{model.id}/logs?stdout=1&follow=1"
            with self.engine.stream("GET", path) as logs:
                assert logs.read(8 + len(b"".join(model.written)))
            model.pid = self.engine.inspect(model.id)["State"]["Pid"]

    def has_ended(self, model, code):
        model.state, model.code, model.pid = "exited", code, 0
        if model.kind == "polite" and code == 3:
            model.written.append(b"bye\n")

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def start_again(self, data):
        model = self.pick(data, "running", "paused")
        if model is not None:
            self.post(model, "start", 304 if model.state == "running" else 409)

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def pause(self, data):
        model = self.pick(data, "running", "paused")
        if model is not None:
            self.post(model, "pause", 204 if model.state == "running" else 409)
            model.state = "paused"

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def unpause(self, data):
        model = self.pick(data, "running", "paused")
        if model is not None:
            self.post(model, "unpause", 204 if model.state == "paused" else 500)
            model.state = "running"

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def stop(self, data):
        model = self.pick(data, "running", "paused")
        if model is not None:
            self.post(model, "stop?t=0" if model.kind == "deaf" else "stop?t=20", 204)
            self.has_ended(model, SCRIPTS[model.kind][1])

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def stop_what_does_not_run(self, data):
        model = self.pick(data, "created", "exited")
        if model is not None:
            self.post(model, "stop", 304)
            self.post(model, "kill", 409)

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def kill(self, data):
        model = self.pick(data, "running", "paused")
        if model is not None:
            self.post(model, "kill", 204)
            self.has_ended(model, 137)

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def restart(self, data):
        model = self.pick(data, "running", "paused", "exited", "created")
        if model is not None:
            self.post(model, "restart?t=0" if model.kind == "deaf" else "restart?t=20", 204)
            if model.state in ("running", "paused"):
                self.has_ended(model, SCRIPTS[model.kind][1])
            self.has_started(model)

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def wait(self, data):
        model = self.pick(data, "ending", "exited", "created")
        if model is not None:
            if model.state == "ending":
                if model.comes_back:
                    self.until(model, lambda state: state["Status"] == "exited")
                    model.written += [b"up\n"] * MOST_RETRIES
                self.engine.wait(model.id)
                self.has_ended(model, 7)
            answer = self.engine.post(f"/containers/{model.id}/wait?condition=not-running")
            assert answer.status == 200
            assert answer.json["StatusCode"] == model.code, model

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def its_payload_is_killed_by_somebody_else(self, data):
        model = self.pick(data, "running", "paused")
        if model is None:
            return
        before = model.pid
        os.kill(before, signal.SIGKILL)
        if model.comes_back:
            self.until(model, lambda state: state["Running"] and state["Pid"] not in (0, before))
            self.has_started(model)
        else:
            assert self.engine.wait(model.id) == 137
            self.has_ended(model, 137)

    def until(self, model, fits):
        """Wait for what the engine does by itself after an end: nothing tells of that alone."""
        until = time.monotonic() + LONG_S
        while not fits(state := self.engine.inspect(model.id)["State"]):
            assert time.monotonic() < until, (model, state)
            time.sleep(0.01)

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def rename(self, data):
        model = self.pick(data)
        model.name = f"renamed-{next(NUMBERS)}"
        self.post(model, f"rename?name={model.name}", 204)

    @precondition(lambda self: len(self.models) > 1)
    @rule(data=st.data())
    def rename_to_a_name_that_is_taken(self, data):
        one, other = self.models[:2]
        self.post(one, f"rename?name={other.name}", 409)

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def remove(self, data):
        model = self.pick(data, "created", "exited", "running", "paused")
        if model is None:
            return
        answer = self.engine.delete(f"/containers/{model.id}")
        if model.state in ("running", "paused"):
            assert answer.status == 409, answer
        else:
            assert answer.status == 204, answer
            self.has_gone(model)

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def remove_by_force(self, data):
        model = self.pick(data)
        answer = self.engine.delete(f"/containers/{model.id}?force=1")
        assert answer.status == 204, answer
        self.has_gone(model)

    def has_gone(self, model):
        self.models.remove(model)
        assert self.engine.get(f"/containers/{model.id}/json").status == 404
        assert not cgroups_of(model.id)

    # ── deaths ──────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.models)
    @rule()
    def kill_the_supervisor(self):
        self.steps.append("kill the supervisor")
        self.engine.kill()
        assert self.engine.answers()

    @precondition(lambda self: self.models)
    @rule()
    def end_the_supervisor(self):
        self.steps.append("end the supervisor")
        self.engine.terminate()
        self.engine.start()

    @precondition(lambda self: self.models)
    @rule()
    def kill_the_shim(self):
        self.steps.append("kill the shim")
        os.kill(self.engine.shim_pid, signal.SIGKILL)
        # A start waits for the next shim, which has been handed everything then.
        assert self.engine.result("true")[0] == 0

    # ── the look at everything ──────────────────────────────────────────────────────────────

    @invariant()
    def the_list_is_right(self):
        listed = {c["Id"]: c for c in self.engine.get("/containers/json?all=1").json}
        assert {m.id: m.name for m in self.models} == {
            id: c["Names"][0].removeprefix("/") for id, c in listed.items()
        }
        for model in self.models:
            assert listed[model.id]["State"] in model.may_be, model

    @invariant()
    def each_container_is_what_it_must_be(self):
        for model in self.models:
            state = self.engine.inspect(model.id)["State"]
            assert state["Status"] in model.may_be, (model, state)
            assert state["Error"] == "", state
            record = store.load(self.engine.root / "containers" / model.id)
            if model.state == "ending":
                continue
            assert str(record.life.state) == model.state
            assert record.name == model.name
            assert state["Pid"] == record.life.pid == model.pid
            if model.state in ("running", "paused"):
                self.runs(model)
            else:
                assert state["ExitCode"] == record.life.exit_code == model.code
                assert cgroups_of(model.id) == []

    def runs(self, model):
        assert Path(f"/proc/{model.pid}").exists()
        assert any(
            str(model.pid) in Path(path, "cgroup.procs").read_text().split()
            for path in cgroups_of(model.id)
        )

    @invariant()
    def each_log_is_whole(self):
        for model in self.models:
            if model.state != "ending":
                out, err = self.engine.output(model.id)
                assert out == b"".join(model.written), model
                assert err == b""

    def teardown(self):
        if isinstance(sys.exc_info()[1], Exception):
            # What fails here seldom fails twice in the same way: tell at once what led to it.
            print("\nfailed after:", *self.steps, sep="\n  ")
        for model in self.models:
            self.engine.delete(f"/containers/{model.id}?force=1")
        self.engine.result("true")
        supervisor, shim = self.engine.supervisor_pid, self.engine.shim_pid
        assert behind(self.engine, supervisor, shim) == []
        now = [
            settled(pid, was) for pid, was in zip((supervisor, shim), self.baseline, strict=True)
        ]
        assert [n.descriptors for n in now] <= [w.descriptors for w in self.baseline]


@pytest.fixture
def respawned_engine(tmp_path):
    """An engine whose shim starts the next supervisor."""
    process = EngineProcess(tmp_path / "engine", respawn=True).start()
    yield process
    process.close()


@pytest.mark.timeout(120 * SCALE)
def test_whatever_is_asked_and_whoever_dies_the_model_holds(respawned_engine):
    Containers.use(respawned_engine)
    run_state_machine_as_test(
        Containers,
        settings=settings(
            max_examples=3 * SCALE,
            stateful_step_count=20,
            deadline=None,
            database=None,
            print_blob=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_model_can_fail(respawned_engine):
    """A container that somebody else ends is noticed."""
    Containers.use(respawned_engine)
    machine = Containers()
    machine.create("deaf", "no")
    model = machine.models[0]
    machine.post(model, "start", 204)
    machine.has_started(model)
    machine.each_container_is_what_it_must_be()
    os.kill(model.pid, signal.SIGKILL)
    respawned_engine.wait(model.id)
    with pytest.raises(AssertionError):
        machine.each_container_is_what_it_must_be()
    model.state, model.code, model.pid = "exited", 137, 0
    machine.each_container_is_what_it_must_be()
    path = respawned_engine.root / "containers" / model.id / "config.json"
    record = msgspec.json.decode(path.read_bytes())
    record["name"] = "somebody-else"
    path.write_bytes(msgspec.json.encode(record))
    with pytest.raises(AssertionError):
        machine.each_container_is_what_it_must_be()
    machine.teardown()
