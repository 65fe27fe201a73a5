"""Run by test_pump: pumps at full speed in children that are killed at random moments.

This process plays the shim: it holds the pipes' ends and the staging pipe, and never reads a byte.
It is a program of its own so that it can fork without the test runner's threads.
"""

import contextlib
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from logs.drivers import Stream, open_log
from logs.pump import MarkFile, Stage
from logs.reader import read
from runtime import kernel

KILLS = 60
ID = "5a" * 32
OPTIONS = {
    "whole": {"max-size": "-1"},
    "rotated": {"max-size": "200k", "max-file": "1000"},
    "compressed": {"max-size": "4m", "max-file": "1000", "compress": "true"},
}
STREAMS = (Stream.STDOUT, Stream.STDERR)


def line(number):
    width = (number * 7919) % 150 if number % 5000 else 40_000
    return b"%d:%b\n" % (number, b"x" * width)


def write_lines(end):
    """The container: as fast as it can, and far more than can be pumped."""
    number = 0
    with contextlib.suppress(BrokenPipeError), open(end, "wb", buffering=1 << 16) as out:
        while True:
            out.write(line(number))
            number += 1


def open_all(directory, driver, held):
    marks = MarkFile(directory / "marks")
    stage = Stage(marks, kernel.tee, fds=tuple(map(os.dup, held)))
    log = open_log(driver, directory, ID, OPTIONS[directory.name])
    stage.recover({ID: log}.get)
    return stage, log


def pump(directory, driver, held, sources):
    """The supervisor: goes on where the last one died, until it is killed."""
    stage, log = open_all(directory, driver, held)
    poll = select.poll()
    for source in sources:
        poll.register(source, select.POLLIN)
    while True:
        for source, _ in poll.poll():
            with contextlib.suppress(BlockingIOError):
                stage.pump(source, log.stream(STREAMS[sources.index(source)]))


def forked(function, *arguments):
    pid = os.fork()
    if pid:
        return pid
    try:
        function(*arguments)
    finally:
        os._exit(1)


def check(directory, driver, held):
    """After the last kill: recover once more, and look at each line."""
    stage, log = open_all(directory, driver, held)
    log.close()
    stage.close()
    total = 0
    for stream in STREAMS:
        text = b"".join(read(log.path, driver, streams=[stream]))
        lines = text.split(b"\n")
        for number, got in enumerate(lines[:-1]):
            if got != line(number)[:-1]:
                sys.exit(f"{driver} {stream.name}: line {number} is {got[:80]!r}")
        if not line(len(lines) - 1).startswith(lines[-1]):
            sys.exit(f"{driver} {stream.name}: unfinished line is {lines[-1][:80]!r}")
        total += len(lines)
    return total


def run(directory, driver):
    directory.mkdir()
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    print(f"{driver}: seed {seed}")
    pipes = [os.pipe() for _ in STREAMS]
    held = os.pipe2(os.O_NONBLOCK)
    writers = []
    for _, end in pipes:
        writers.append(forked(write_lines, end))
    for _, end in pipes:
        os.close(end)
    for _ in range(KILLS):
        child = forked(pump, directory, driver, held, [source for source, _ in pipes])
        time.sleep(dice.uniform(0.001, 0.02))  # the random moment is the point
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"{driver}: the pump ended by itself")
    for source, _ in pipes:
        os.close(source)
    for writer in writers:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    total = check(directory, driver, held)
    if total < 1000:
        sys.exit(f"{driver}: only {total} lines came through, which proves nothing")
    print(f"{driver}: {total} lines, {KILLS} kills, {len(os.listdir(directory))} files")


if __name__ == "__main__":
    run(Path(sys.argv[1]) / sys.argv[3], sys.argv[2])
