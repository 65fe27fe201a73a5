"""Payloads that are at work while a test looks."""

from __future__ import annotations


def begun(engine, script, word="up", **config):
    """A container whose shell script has written a word; returns its id."""
    container = engine.run("sh", "-c", script, **config)
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        data = b""
        while word.encode() not in data:
            piece = logs.read1(4096)
            assert piece, (data, engine.output(container))
            data += piece
    return container
