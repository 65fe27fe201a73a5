"""A run that has ended harms nobody whose descriptors have got its numbers."""

import os
import signal

from supervisor.running import Run


class NoCgroups:
    def kill(self, container_id):
        pass


def closed_run(pidfd):
    run = Run("c" * 64, NoCgroups(), os.getpid(), 0, pidfd, -1, -1, None)
    run.close()
    return run


def test_a_signal_after_the_end_goes_nowhere(monkeypatch):
    sent = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *words: sent.append(words))
    run = closed_run(os.pidfd_open(os.getpid()))
    run.send_signal(signal.SIGTERM)
    run.kill_all()
    assert sent == []


def test_a_second_close_closes_nothing():
    run = closed_run(os.pidfd_open(os.getpid()))
    reused = os.pidfd_open(os.getpid())
    try:
        run.close()
        os.fstat(reused)
    finally:
        os.close(reused)
