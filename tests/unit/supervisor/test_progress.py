"""The lines that tell of a transfer: Docker's, few, and never waited for."""

import json

import anyio
import pytest

from supervisor import progress
from supervisor.progress import Progress, bar

pytestmark = pytest.mark.anyio


async def told(board):
    """All lines until it is closed."""
    data = b"".join([piece async for piece in board.lines()])
    assert data == b"" or data.endswith(b"\r\n")
    return [json.loads(line) for line in data.splitlines()]


async def test_the_lines_are_dockers():
    board = Progress()
    assert not board.begun
    board.say("Pulling from library/x", "latest")
    board.show("abc", "Waiting")
    board.show("abc", "Downloading", 50_000, 100_000)
    board.aux({"Tag": "latest"})
    board.say("Digest: sha256:1")
    board.fail("no space left on device")
    assert board.begun
    board.close()
    assert await told(board) == [
        {"status": "Pulling from library/x", "id": "latest"},
        {"status": "Waiting", "progressDetail": {}, "id": "abc"},
        {
            "status": "Downloading",
            "progressDetail": {"current": 50_000, "total": 100_000},
            "progress": "[=========================>                         ]     50kB/100kB",
            "id": "abc",
        },
        {"progressDetail": {}, "aux": {"Tag": "latest"}},
        {"status": "Digest: sha256:1"},
        {
            "errorDetail": {"message": "no space left on device"},
            "error": "no space left on device",
        },
    ]


@pytest.mark.parametrize(
    ("current", "total", "drawn"),
    [
        (1, 4, "[============>                                      ]       1B/4B"),
        (4, 4, "[==================================================>]       4B/4B"),
        (1234567, 1, "[==================================================>]  1.235MB"),
        (999, 0, "    999B"),
        (4_260_000, 0, "  4.26MB"),
    ],
)
def test_bars(current, total, drawn):
    assert bar(current, total) == drawn


async def test_numbers_come_at_a_bearable_pace(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    board, seen = Progress(), []

    async def read():
        async for piece in board.lines():
            lines = [json.loads(line) for line in piece.splitlines()]
            seen.extend(line["progressDetail"].get("current") for line in lines)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        for count in range(1, 101):
            now += 0.01
            board.show("abc", "Downloading", count, 100)
            await anyio.wait_all_tasks_blocked()
        board.show("abc", "Download complete")
        board.close()
    assert seen[-2:] == [100, None]
    assert 10 <= len(seen) <= 14


async def test_who_does_not_read_gets_what_is_newest():
    board = Progress()
    for count in range(1, 1001):
        board.show("abc", "Pushing", count, 0)
        board.show("def", "Pushing", count, count)
    board.close()
    lines = await told(board)
    assert len(lines) == 2
    assert lines[1]["progressDetail"] == {"current": 1000, "total": 1000}


async def test_nothing_to_tell():
    board = Progress()
    board.close()
    assert await told(board) == []
