"""The ways of a container that the engine keeps alive by itself: policies and health checks."""

from __future__ import annotations

import time

from tests.soak.patient import BACK_LIMIT_S, GaveUp
from tests.soak.payload import Payload

SECOND_NS = 1_000_000_000


def policy(name, retries=0):
    return {"RestartPolicy": {"Name": name, "MaximumRetryCount": retries, "DelayMs": 50}}


def keeps_failing(life):
    """It fails each time; after so many restarts it stays down, with its last code."""
    retries = life.choose.randint(1, 3)
    payload = Payload(lines=life.choose.randint(1, 30), code=6)
    life.create(payload, HostConfig=policy("on-failure", retries))
    life.start(retries + 1)
    life.check_code("inspect", life.wait_for_the_last(), 6)
    check_count(life, retries)
    life.verify(6)
    life.remove()


def recovers(life):
    """It fails until its third run, which ends well."""
    payload = Payload(lines=life.choose.randint(1, 30), code=6, good_at=3)
    life.create(payload, HostConfig=policy("on-failure"))
    asked = life.start(3)
    life.check_code("inspect", life.wait_for_the_last(), 0)
    if asked == 1:
        check_count(life, 2)
    life.verify(0)
    life.remove()


def comes_back_until_stopped(life):
    """Policy `always` or `unless-stopped`: it comes back whatever it ends with, but not once
    somebody has stopped it."""
    payload = Payload(lines=life.choose.randint(1, 20), nap_s=0.1, code=0)
    name = life.choose.choice(("always", "unless-stopped"))
    life.create(payload, HostConfig=policy(name))
    asked = life.start()
    life.think()
    life.ask_for("POST", "/stop?t=20", done=204, again=(304,))
    code = life.wait_for_the_last()
    if code not in (0, 137):  # stopped before its traps are set it is killed after the timeout
        raise GaveUp(f"{life.name} ended with {code}, 0 was due")
    answer, _ = life.ask("GET", "/json", allowed=(200,))
    count = answer.json["RestartCount"]
    # The last run may have been ended before its first line; a start that was asked twice counts
    # anew.
    life.runs = [count, count + 1 if asked == 1 else 1 << 30]
    life.verify(code)
    life.remove()


def check_count(life, due):
    answer, _ = life.ask("GET", "/json", allowed=(200,))
    if answer.json["RestartCount"] != due:
        raise GaveUp(f"{life.name} was restarted {answer.json['RestartCount']} times, not {due}")


def health_check(*test, **more):
    return {
        "Test": list(test),
        "Interval": SECOND_NS // 2,
        "Timeout": 20 * SECOND_NS,
        "Retries": 2,
        **more,
    }


def is_healthy(life):
    """Its check succeeds, whoever dies between two of them."""
    life.create(Payload(code=2), Healthcheck=health_check("CMD", "true"))
    life.start()
    life.first_line()
    await_health(life, "healthy")
    life.think()
    await_health(life, "healthy")
    life.ask_for("POST", "/stop?t=20", done=204, again=(304,))
    life.wait(2)
    life.verify(2)
    life.remove()


def is_killed_for_its_health(life):
    """Its check fails, and that is its end."""
    check = health_check("CMD-SHELL", "exit 1", OnFailure="kill")
    life.create(Payload(), Healthcheck=check)
    life.start()
    life.wait(137)
    life.verify_if_begun(137)
    life.remove()


def await_health(life, due):
    """Wait for a health status; that it is looked at in between does not matter to the engine."""
    until = time.monotonic() + BACK_LIMIT_S
    while True:
        answer, _ = life.ask("GET", "/json", allowed=(200,))
        health = answer.json["State"].get("Health") or {}
        if health.get("Status") == due:
            return
        if time.monotonic() > until:
            raise GaveUp(f"{life.name} does not become {due}: {health}")
        time.sleep(0.2)


KEPT_ALIVE = (
    (keeps_failing, 2),
    (recovers, 1),
    (comes_back_until_stopped, 2),
    (is_healthy, 2),
    (is_killed_for_its_health, 1),
)
"""Each way, and how often it is chosen."""
