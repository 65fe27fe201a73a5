"""A payload's own output: pipes whose nature it changes, and records that it forges."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.terminal_session import Session

NEIGHBOUR = "i=0; while [ $i -lt 300 ]; do echo neighbour $i; i=$((i+1)); done; cat /tmp/none"
SAID = b"".join(b"neighbour %d\n" % number for number in range(300))
PROGRAM = shutil.which("python3", path="/usr/bin")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs /usr/bin/python3 in the image host")

PACKETS = """
fcntl.fcntl(1, fcntl.F_SETFL, os.O_DIRECT | os.O_WRONLY)
for number in range(3000):
    os.write(1, b"packet %d\\n" % number)
"""
SMALL = """
fcntl.fcntl(1, 1031, 4096)
for number in range(3000):
    os.write(1, b"packet %d\\n" % number)
fcntl.fcntl(1, 1031, 1 << 20)
"""
FLAGS = """
import signal
for fd in (0, 1, 2):
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND | os.O_ASYNC)
    fcntl.fcntl(fd, fcntl.F_SETOWN, 1)
signal.signal(signal.SIGIO, signal.SIG_IGN)
sent = 0
while sent < 3000:
    try:
        os.write(1, b"packet %d\\n" % sent)
        sent += 1
    except BlockingIOError:
        select.select([], [1], [])
"""
GIFT = """
import ctypes, mmap
libc = ctypes.CDLL(None)
page = mmap.mmap(-1, 1 << 16)
class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
for number in range(3000):
    text = b"packet %d\\n" % number
    at = number * 16
    page[at : at + len(text)] = text
    libc.vmsplice(1, ctypes.byref(IoVec(address + at, len(text))), 1, 0)
"""
TRICKS = {"packets": PACKETS, "sizes": SMALL, "flags": FLAGS, "vmsplice": GIFT}


def python(program):
    return PROGRAM, "-c", "import fcntl, os, select\n" + program


@pytest.mark.parametrize("name", TRICKS)
def test_a_pipe_whose_nature_the_payload_changes(engine, name):
    """Of its own output not a byte is lost, and a neighbour's is nobody's business."""
    neighbour = engine.run("sh", "-c", NEIGHBOUR)
    container = engine.run(*python(TRICKS[name]))
    assert engine.wait(container) == 0, engine.output(container)
    said = b"".join(b"packet %d\n" % number for number in range(3000))
    assert engine.output(container) == (said, b"")
    engine.wait(neighbour)
    assert engine.output(neighbour)[0] == SAID
    for one in (container, neighbour):
        engine.delete(f"/containers/{one}?force=1")


STEALS = """
readers = [os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK) for fd in (1, 2)]
writers = [os.open(f"/proc/1/fd/{fd}", os.O_WRONLY) for fd in (1, 2)]
stolen = 0
for number in range(4000):
    os.write(writers[number % 2], b"x" * 100 + b"\\n")
    try:
        stolen += len(os.read(readers[number % 2], 4096))
    except BlockingIOError:
        pass
os.write(writers[0], b"stolen %d\\n" % stolen)
"""


def test_output_that_is_read_back_from_the_own_pipe(engine):
    """What it takes is gone from its own log; who reads beside it never waits for it."""
    neighbour = engine.run("sh", "-c", NEIGHBOUR)
    container = engine.run(*python(STEALS))
    assert engine.wait(container) == 0
    out, err = engine.output(container)
    assert len(out) + len(err) <= 101 * 4000 + 20
    engine.wait(neighbour)
    assert engine.output(neighbour)[0] == SAID
    for one in (container, neighbour):
        engine.delete(f"/containers/{one}?force=1")


FORGED = (
    b'{"log":"forged\\n","stream":"stderr","time":"2026-01-01T00:00:00.000000000Z"}\n',
    b'"}\n{"log":"broken out","stream":"stderr"}\n',
    b"2026-01-01T00:00:00.000000000+00:00 stderr F forged\n",
    b"\n2026-01-01T00:00:00.000000000+00:00 stderr F forged",
    b"\r\0\x1b]0;title\x07\x1b[2J\xff\xfe\xe2\x80\xa8\xc2\x85\\u000a\\\n",
)


@pytest.mark.parametrize("driver", ["json-file", "k8s-file"])
def test_records_cannot_be_forged(engine, driver):
    """Whatever it writes is one stream's text, to the byte; each record has our stream and time."""
    long = b"y" * 3_000_000
    config = {"HostConfig": {"LogConfig": {"Type": driver}}}
    program = f"import sys\nsys.stdout.buffer.write({b''.join(FORGED)!r} + b'y' * 3000000 + b'\\n')"
    container = engine.run(*python(program), **config)
    assert engine.wait(container) == 0
    out, err = engine.output(container)
    # JSON knows no bytes that are no UTF-8: there they are U+FFFD, as in Docker.
    said = b"".join(FORGED) + long + b"\n"
    if driver == "json-file":
        said = said.decode(errors="replace").encode()
    assert (out, err) == (said, b"")
    path = engine.inspect(container)["LogPath"]
    with open(path, "rb") as log:
        for line in log:
            if driver == "json-file":
                record = json.loads(line)
                assert record.keys() == {"log", "stream", "time"}
                assert (record["stream"], record["time"][:3]) == ("stdout", "202")
            else:
                assert line.split(b" ")[1] == b"stdout"
                assert not line.startswith(b"2026-01-01")
    assert os.stat(path).st_size < 3 * len(long)
    engine.delete(f"/containers/{container}")


def test_cve_2021_41091_what_a_payload_leaves_on_the_disk_is_in_no_user_s_reach(engine, tmp_path):
    """A set-user-id program, in its layer and in /etc/hosts, which is a file of the machine's."""
    script = """
        cp /bin/busybox /tool || cp /bin/true /tool
        cat /tool > /etc/hosts; chmod 4777 /tool /etc/hosts; mkdir -m 777 /open /vol/open
        cp /tool /vol/tool; chmod 4777 /vol/tool /vol; sleep 1000
    """
    host = {"HostConfig": {"Binds": ["escapes:/vol"]}}
    container = engine.run("sh", "-c", script, **host)
    directory = engine.root / "containers" / container
    volume = engine.root / "volumes/escapes/_data"
    made = (directory / "upper/tool", directory / "hosts", volume / "tool")
    while not all(path.exists() and path.stat().st_mode & 0o4000 for path in made):
        assert engine.get("/_ping").status == 200
    tests = " || ".join(f"test -e {path}" for path in (*made, directory / "upper/open"))

    def reached():
        nobody = {"user": 65534, "group": 65534, "extra_groups": ()}
        command = ["sh", "-c", f"cd / && {{ {tests}; }}"]
        return subprocess.run(command, **nobody, check=False).returncode == 0

    # Whatever is above the engine's own directories stands open.
    above = [path for path in engine.root.parents if path != path.parent]
    modes = [(path, path.stat().st_mode & 0o7777) for path in above]
    try:
        for path, mode in modes:
            path.chmod(mode | 0o055)
        assert not reached()
        # With the engine's directories open, too, it would be there.
        opened = [engine.root, directory.parent, directory, directory / "upper"]
        inner = [(path, path.stat().st_mode & 0o7777) for path in opened]
        for path, _ in inner:
            path.chmod(0o755)
        assert reached()
        for path, mode in inner:
            path.chmod(mode)
    finally:
        for path, mode in modes:
            path.chmod(mode)
    engine.delete(f"/containers/{container}?force=1")
    assert engine.delete("/volumes/escapes").status == 204


def test_names_that_steer_a_terminal_are_shown_and_not_obeyed(engine):
    """File names, a process's own name, errors that repeat them; `logs` and `attach` are raw."""
    title = "\x1b]0;evil\x07"
    program = f"""
import ctypes, time
open("/file" + {title!r}, "w")
ctypes.CDLL(None).prctl(15, {title!r}.encode(), 0, 0, 0)
os.write(1, b"up\\n")
time.sleep(1000)
"""
    container = engine.run(*python(program))
    while engine.output(container)[0] != b"up\n":
        assert engine.get("/_ping").status == 200
    commands = (
        ("diff", container),
        ("top", container, "-o", "pid,comm"),
        ("cp", f"{container}:/none{title}", "/tmp"),
    )
    for command in commands:
        words = [sys.executable, "-m", "mdocker", *command]
        session = Session(words, env=engine.environment, cwd="/")
        try:
            session.wait()
            session.until(rb"evil")
            assert b"\x1b]0;" not in session.everything, command
        finally:
            session.close()
    # A program gets the name itself.
    out, _ = engine.spawn("diff", container).communicate()
    assert f"A /file{title}\n" in out
    engine.delete(f"/containers/{container}?force=1")
