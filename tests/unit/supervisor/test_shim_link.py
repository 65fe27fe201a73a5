"""The link to the shim: what it does with ends that nobody waits for."""

from pathlib import Path

import anyio
import pytest

from runtime import shim_protocol as protocol
from supervisor.shim_link import ShimLink

pytestmark = pytest.mark.anyio


async def test_the_end_of_a_spawn_whose_descriptors_were_lost_is_forgotten_at_the_shim(
    monkeypatch,
):
    link = ShimLink(Path("/nowhere"))
    sent = []
    monkeypatch.setattr(link._sending, "forget", sent.append)
    link._refused["lost"] = gone = anyio.Event()
    link._take(protocol.Exited("lost", 7, 9, 1))
    link._take(protocol.Exited("other", 8, 9, 1))
    assert sent == ["lost"]
    assert not link._refused
    assert gone.is_set()
