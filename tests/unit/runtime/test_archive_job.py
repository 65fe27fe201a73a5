"""The helper's start and its end, as far as they need no root."""

import errno
import json
import os
import resource
import select

import pytest

from runtime.archive_job import ArchiveJob

WRONG = {"kind": "read", "view": {}, "path": "/", "sparse": False}


def descriptors():
    return set(os.listdir("/proc/self/fd"))


def answer(job):
    told = b""
    while not told.endswith(b"\n"):
        assert select.select([job.result_fd], [], [], 20)[0]
        piece = os.read(job.result_fd, 65536)
        if not piece:
            break
        told += piece
    return json.loads(told)


def test_a_mistake_of_ours_is_told_in_words():
    before = descriptors()
    job = ArchiveJob(WRONG)
    told = answer(job)
    assert (told["kind"], "KeyError" in told["error"]) == ("failed", True)
    job.close()
    job.reap()
    assert descriptors() == before


@pytest.mark.parametrize("kind", ["read", "write"])
def test_one_that_is_let_go_at_once_is_killed(kind):
    before = descriptors()
    job = ArchiveJob({**WRONG, "kind": kind})
    job.close()
    assert select.select([job.pidfd], [], [], 20)[0]
    job.reap()
    assert descriptors() == before


@pytest.mark.parametrize("kind", ["read", "write", "stat"])
def test_without_descriptors_nothing_is_left(kind):
    before = descriptors()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # what is open above it stays so
    os.close(lowest)
    failed = 0
    for more in range(20):
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, limits[1]))
        job = None
        try:
            job = ArchiveJob({**WRONG, "kind": kind})
        except OSError as error:
            assert error.errno == errno.EMFILE
            failed += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        if job is not None:
            job.close()
            job.reap()
        assert descriptors() == before
    assert failed > 3
