"""The ways a container of the soak lives and ends, and what must be true of each."""

from __future__ import annotations

import time

from tests.soak.account import judge
from tests.soak.patient import GaveUp
from tests.soak.payload import Payload


class Life:
    """One container from create to remove.

    Attributes:
        runs: How often its start succeeded, as far as we can know: (least, most).
    """

    def __init__(self, world, name, choose):
        self.world = world
        self.name = name
        self.choose = choose
        self.id = ""
        self.payload = Payload()
        self.runs = [0, 0]
        self.pause_s = choose.uniform(*world.pause_s)

    # What it does, step by step

    def create(self, payload, **options):
        self.payload = payload
        self.create_of(payload.config | options)

    def create_of(self, body):
        answer, _ = self.world.patient.ask(
            "POST", f"/containers/create?name={self.name}", body, allowed=(201, 409)
        )
        if answer.status == 409:  # made, and the answer was cut off
            answer, _ = self.ask("GET", "/json", by_name=True, allowed=(200,))
        self.id = answer.json["Id"]
        self.world.tally.containers += 1

    def ask(self, method, verb, *, allowed, by_name=False, excused=()):
        path = f"/containers/{self.name if by_name else self.id}{verb}"
        return self.world.patient.ask(method, path, allowed=allowed, excused=excused)

    def ask_for(self, method, verb, *, done, again, excused=()):
        """Ask for a change; the status `again` is right only where an answer was cut off."""
        answer, asked = self.ask(method, verb, allowed=(done, *again), excused=excused)
        if answer.status != done and asked == 1:
            raise GaveUp(f"{method} {verb} of {self.name}, asked once: {answer}")
        return asked

    def start(self, runs=1, gone=()):
        """Start it.

        Args:
            runs: How many runs follow by its policy, the first counted.
            gone: The status of one that had its run and has removed itself.
        """
        again = (304, *gone)
        asked = self.ask_for("POST", "/start", done=204, again=again, excused=(500,))
        # One that was asked twice may have run, ended, and been started again.
        self.runs = [self.runs[0] + runs, self.runs[1] + runs * asked]
        return asked

    def first_line(self):
        """Wait until its traps are set, which its first line tells."""
        if not self.world.patient.first_byte(self.id):
            raise GaveUp(f"{self.name} ended without a line")

    def think(self):
        time.sleep(self.pause_s)

    def wait(self, code):
        """Wait for its end, and check its exit code."""
        answer, _ = self.ask("POST", "/wait?condition=not-running", allowed=(200,))
        self.check_code("wait", answer.json["StatusCode"], code)
        self.world.tally.exits += 1

    def wait_for_the_last(self):
        """Wait for the end after which no policy starts it again; returns its code."""
        while True:
            self.ask("POST", "/wait?condition=not-running", allowed=(200,))
            self.world.tally.exits += 1
            answer, _ = self.ask("GET", "/json", allowed=(200,))
            if answer.json["State"]["Status"] == "exited":
                return answer.json["State"]["ExitCode"]

    def check_code(self, who, told, code):
        if told != code:
            raise GaveUp(f"{who} tells {told} as the exit code of {self.name}, {code} was due")

    def verify(self, code, *, tail_only=False):
        """Hold log and record against the container's own account."""
        answer, _ = self.ask("GET", "/json", allowed=(200,))
        state = answer.json["State"]
        if state["Status"] != "exited" or state["Running"] or state["Pid"]:
            raise GaveUp(f"inspect of {self.name} after its end: {state}")
        self.check_code("inspect", state["ExitCode"], code)
        if state["Error"]:
            raise GaveUp(f"inspect of {self.name}: {state['Error']}")
        self.verify_log(tail_only=tail_only, cut=self.world.killer.deaths.both > 0)

    def verify_log(self, *, tail_only=False, cut=False):
        """Hold its log against its own account."""
        upper = self.world.engine.root / "containers" / self.id / "upper"
        account = (upper / "account").read_text()
        runs = (upper / "runs").read_bytes().count(b"\n")
        if not cut and not self.runs[0] <= runs <= self.runs[1]:
            raise GaveUp(f"{self.name} ran {runs} times, {self.runs} were asked for")
        answer, _ = self.ask("GET", "/logs?stdout=1&stderr=1", allowed=(200,))
        streams = self.world.split(answer.body)
        findings = judge(
            account, runs, self.payload.filling, *streams, tail_only=tail_only, cut=cut
        )
        if not findings.clean:
            findings.words = [f"{self.name} ({self.id[:12]}): {word}" for word in findings.words]
        self.world.tally.log(findings)

    def was_cut_off(self):
        """Whether supervisor and shim died at once while it ran, and the engine says so.

        Then its end may be unknown, and its newest lines missing; the rest is checked, and it is
        removed.
        """
        if not self.world.killer.deaths.both:
            return False
        answer, _ = self.ask("GET", "/json", allowed=(200, 404))
        if answer.status == 404:
            return True  # it had removed itself, and who waited was told that nobody knows
        if not answer.json["State"]["Error"]:
            return False
        upper = self.world.engine.root / "containers" / self.id / "upper"
        if (upper / "account").exists():
            self.verify_log(cut=True, tail_only=answer.json["HostConfig"]["LogConfig"]["Config"])
        self.remove(force=True)
        return True

    def verify_if_begun(self, code):
        """The same of one that may have been killed before it began its account."""
        upper = self.world.engine.root / "containers" / self.id / "upper"
        if (upper / "account").exists():
            self.verify(code)

    def remove(self, force=False):
        verb = "?force=1" if force else ""
        self.ask_for("DELETE", verb, done=204, again=(404,), excused=(409,))
        self.world.tally.removed += 1


def counts(life):
    """It prints its lines, now and then a nap, and ends by itself with a code of its own."""
    code = life.choose.choice((0, 1, 2, 42, 255))
    lines = life.choose.randint(1, 60)
    life.create(Payload(lines=lines, burst=5, nap_s=0.3, code=code, pad=life.choose.randint(0, 90)))
    life.start()
    life.wait(code)
    life.verify(code)
    life.remove()


def floods(life):
    """It prints as fast as it can."""
    code = life.choose.choice((0, 3))
    lines = life.choose.randint(500, 6000)
    pad = life.choose.choice((0, 30, 300))
    life.create(Payload(lines=lines, burst=lines + 1, code=code, pad=pad))
    life.start()
    life.wait(code)
    life.verify(code)
    life.remove()


def long_lines(life):
    """Its lines are longer than a record of the log may be (16 KiB), and than a page."""
    lines = life.choose.randint(10, 60)
    life.create(Payload(lines=lines, burst=20, nap_s=0.1, code=9, pad=20_000))
    life.start()
    life.wait(9)
    life.verify(9)
    life.remove()


def is_rotated(life):
    """It prints more than its log may keep: the oldest lines go, and none but those."""
    options = {"max-size": "40k", "max-file": life.choose.choice("1234")}
    if options["max-file"] != "1" and life.choose.random() < 0.5:
        options["compress"] = "true"
    driver = life.choose.choice(("json-file", "k8s-file"))
    lines = life.choose.randint(500, 3000)
    life.create(
        Payload(lines=lines, burst=lines // 4, nap_s=0.2, code=1, pad=60),
        HostConfig={"LogConfig": {"Type": driver, "Config": options}},
    )
    life.start()
    life.wait(1)
    life.verify(1, tail_only=True)
    life.remove()


def removes_itself(life):
    """--rm: it goes by itself, and whoever waits is told its code all the same."""
    code = life.choose.choice((0, 8))
    lines = life.choose.randint(1, 40)
    payload = Payload(lines=lines, burst=5, nap_s=0.3, code=code)
    life.create(payload, HostConfig={"AutoRemove": True})
    life.start(gone=(404,))
    answer, _ = life.ask("POST", "/wait?condition=removed", allowed=(200,))
    life.check_code("wait", answer.json["StatusCode"], code)
    life.ask("GET", "/json", allowed=(404,))
    life.world.tally.exits += 1
    life.world.tally.removed += 1


def is_stopped(life):
    """It ends when it is asked to, with a last word and its own code."""
    code = life.choose.choice((0, 5))
    life.create(Payload(code=code))
    life.start()
    life.first_line()
    life.think()
    life.ask_for("POST", "/stop?t=20", done=204, again=(304,))
    life.wait(code)
    life.verify(code)
    life.remove()


def is_stubborn(life):
    """It ignores SIGTERM, and SIGKILL follows."""
    life.create(Payload(on_term=""))
    life.start()
    life.first_line()
    life.think()
    life.ask_for("POST", "/stop?t=1", done=204, again=(304,))
    life.wait(137)
    life.verify(137)
    life.remove()


def is_killed(life):
    """Killed at any moment."""
    life.create(Payload(burst=life.choose.choice((3, 1000)), nap_s=0.1))
    life.start()
    life.think()
    life.ask_for("POST", "/kill", done=204, again=(409,))
    life.wait(137)
    life.verify_if_begun(137)
    life.remove()


def gets_a_signal(life):
    """A signal of the user's, which it takes as a reason to end with 7."""
    life.create(Payload())
    life.start()
    life.first_line()
    life.think()
    life.ask_for("POST", "/kill?signal=USR1", done=204, again=(409,))
    life.wait(7)
    life.verify(7)
    life.remove()


def is_restarted(life):
    """Restarted once or twice, each run with an account of its own, then stopped."""
    life.create(Payload(code=4))
    life.start()
    for _ in range(life.choose.randint(1, 2)):
        life.first_line()
        life.think()
        asked = life.ask_for("POST", "/restart?t=20", done=204, again=(), excused=(500,))
        life.runs = [life.runs[0] + 1, life.runs[1] + asked]
    life.think()
    life.ask_for("POST", "/stop?t=20", done=204, again=(304,))
    answer, _ = life.ask("GET", "/json", allowed=(200,))
    # One that is stopped before its traps are set is killed after the timeout.
    code = answer.json["State"]["ExitCode"]
    if code not in (4, 137):
        raise GaveUp(f"{life.name} ended with {code}, 4 was due")
    life.wait(code)
    life.verify(code)
    life.remove()


def is_removed_by_force(life):
    """Removed while it runs."""
    life.create(Payload())
    life.start()
    life.think()
    life.remove(force=True)
    life.world.tally.exits += 1


def fails_to_start(life):
    """Its command does not exist."""
    life.create_of({"Image": "host", "Cmd": ["no-such-command"]})
    asked = 0
    while True:
        answer, times = life.ask("POST", "/start", allowed=(400, 404, 304), excused=(500,))
        asked += times
        if answer.status != 304:
            break
        # A start whose supervisor died is taken for a run by the next one, which ends with 127.
        if asked == 1:
            raise GaveUp(f"{life.name} is said to run")
        life.ask("POST", "/wait", allowed=(200,))
    life.runs = [0, asked - 1]
    answer, _ = life.ask("GET", "/json", allowed=(200,))
    life.check_code("inspect", answer.json["State"]["ExitCode"], 127)
    life.world.tally.exits += 1
    life.remove()


PLAIN = (
    (counts, 5),
    (floods, 2),
    (long_lines, 1),
    (is_rotated, 2),
    (removes_itself, 1),
    (is_stopped, 3),
    (is_stubborn, 2),
    (is_killed, 3),
    (gets_a_signal, 1),
    (is_restarted, 2),
    (is_removed_by_force, 1),
    (fails_to_start, 1),
)
"""Each way, and how often it is chosen."""
