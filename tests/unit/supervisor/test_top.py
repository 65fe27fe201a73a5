"""What is made of the output of ps, and the table for machines that have none."""

import os
import subprocess

import pytest

from runtime import process_list
from supervisor.errors import BadParameter, EngineFault
from supervisor.top import Listing, check_options, parse

EF = """\
UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 09:00 ?        00:00:02 /sbin/init  splash
bird          77       1  9 09:01 pts/3    00:00:00 sh -c 'sleep 1'

"""


def test_only_the_containers_own_are_kept():
    assert parse(EF, {77}) == Listing(
        ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"),
        (("bird", "77", "1", "9", "09:01", "pts/3", "00:00:00", "sh -c 'sleep 1'"),),
    )


def test_threads_go_with_their_process():
    output = "  PID   LWP CMD\n 5 - a\n - 5 -\n 6 - b\n - 6 -\n"
    assert parse(output, {6}).processes == (("6", "-", "b"), ("-", "6", "-"))


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("USER CMD\nroot x\n", "Couldn't find PID field in ps output"),
        ("", "Couldn't find PID field in ps output"),
        ("CMD PID\nsh x\n", "Unexpected pid 'x'"),
    ],
)
def test_what_is_no_list_of_pids_is_refused(output, text):
    with pytest.raises(EngineFault) as caught:
        parse(output, {1})
    assert text in str(caught.value)


@pytest.mark.parametrize("options", ["-e -o ppid=PID", "-o user=PID,comm"])
def test_another_column_can_not_be_called_pid(options):
    with pytest.raises(EngineFault, match="is not allowed"):
        check_options(options)


def test_what_no_program_can_get_is_refused():
    with pytest.raises(BadParameter, match="holds a NUL character"):
        check_options("-e\0f")


@pytest.mark.parametrize("options", ["-ef", "-o pid,comm", "-o pid=PID", "-o comm=COMMAND"])
def test_what_is_harmless_is_let_through(options):
    check_options(options)


def test_the_table_without_ps_is_that_of_ps():
    child = subprocess.Popen(["sleep", "1000"])
    try:
        chosen = {child.pid, os.getppid()}
        command = ["ps", "-efww", f"-q{','.join(map(str, chosen))}"]
        output = subprocess.check_output(command, text=True, env={**os.environ, "LC_ALL": "C"})
        theirs = parse(output, chosen)
        assert theirs.titles == process_list.TITLES
        ours = process_list.rows({*chosen, 2**22})
        # C and TIME go on.
        exact = [0, 1, 2, 4, 5, 7]
        assert [[row[i] for i in exact] for row in ours] == [
            [row[i] for i in exact] for row in sorted(theirs.processes, key=lambda row: int(row[1]))
        ]
    finally:
        child.kill()
        child.wait()


def test_times_of_long_ago(monkeypatch):
    now = 1_700_000_000.0
    assert process_list._began(now - 86400 * 3, now) in ("Nov11", "Nov12")
    assert process_list._began(now - 86400 * 400, now) == "2022"
    assert process_list._used(86400 * 2 + 3661) == "2-01:01:01"
    assert process_list._terminal(os.makedev(136, 3)) == "pts/3"
    assert process_list._terminal(os.makedev(137, 3)) == "pts/259"
    assert process_list._terminal(0) == "?"
