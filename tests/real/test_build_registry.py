"""Builds on images of a registry."""

from __future__ import annotations

import base64
import json

from tests.real.archives import TAR
from tests.real.building import NOTHING, Built, context, left, made
from tests.real.registry_process import PASSWORD, USER

CREDENTIALS = {"username": USER, "password": PASSWORD}


def spelled(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def pushed(engine, registry, image, name):
    """Have an image of ours in a registry, and there alone."""
    full = f"{registry.address}/{name}"
    assert engine.post(f"/images/{image}/tag?repo={full}").status == 201
    answer = engine.post(f"/images/{full}/push", headers={"X-Registry-Auth": spelled(CREDENTIALS)})
    assert answer.status == 200 and b"errorDetail" not in answer.body, answer
    assert engine.delete(f"/images/{full}").status == 200
    return full


def test_bases_come_from_registries(engine, busybox, registry_with_password):
    registry = registry_with_password
    made(engine, "FROM busybox\nRUN echo 1 >/one\n", t="first")
    base = pushed(engine, registry, "first", "birds/base")
    assert engine.delete("/images/first").status == 200
    dockerfile = f"FROM {base}\nRUN cat /one\n"
    answer = engine.request("POST", "/build", context(dockerfile), TAR)
    # What asks for it comes behind what is told of the step.
    refused = Built(answer)
    assert refused.lines[0] == {"stream": f"Step 1/2 : FROM {base}\n"}
    assert "no basic auth credentials" in refused.error
    known = {"X-Registry-Config": spelled({registry.address: CREDENTIALS})}
    built = Built(engine.request("POST", "/build", context(dockerfile), TAR | known))
    assert not built.error and "1\n" in built.text
    told = [line["status"] for line in built.lines if "status" in line]
    assert told[0] == "Pulling from birds/base" and told[-1].startswith("Status: Downloaded newer")
    # What is here is used as it is, unless the newest is asked for.
    again = made(engine, dockerfile)
    assert not any("status" in line for line in again.lines)
    made(engine, "FROM busybox\nRUN echo 2 >/one\n", t="second")
    pushed(engine, registry, "second", "birds/other")
    other = f"{registry.address}/birds/other"
    lines = f"FROM scratch\nCOPY --from={other} /one /two\n"
    built = Built(engine.request("POST", "/build?pull=1", context(lines), TAR | known))
    assert not built.error and built.id
    lines = "FROM scratch\nCOPY --from=127.0.0.1:1/x:y /one /two\n"
    refused = Built(engine.request("POST", "/build", context(lines), TAR))
    assert "invalid from flag value 127.0.0.1:1/x:y" in refused.error
    answer = engine.request("POST", "/build?platform=linux/s390x", context(dockerfile), TAR | known)
    assert "s390x" in Built(answer).error
    assert left(engine) == NOTHING
