"""The short form of the soak (`make soak` is the long one), and proof that it can fail."""

from __future__ import annotations

import random

import pytest

from tests.soak.account import judge
from tests.soak.payload import Payload
from tests.soak.soak import Plan, Soak


@pytest.mark.timeout(90)
def test_nothing_is_lost_while_the_supervisor_is_killed_each_second(tmp_path):
    seed = random.SystemRandom().randrange(1 << 32)
    plan = Plan(6, seed, slots=80, pause_s=(0.1, 2.0))
    soak = Soak(plan, tmp_path, say=lambda words: None)
    passed = soak.run()
    print(soak.closing_count())
    assert passed, soak.closing_count()
    assert soak.tally.containers >= 80
    assert soak.killer.deaths.supervisor
    assert soak.tally.findings.lines > 10_000


FILLING = Payload(pad=5).filling
ACCOUNT = "".join(f"1 {n}\n" for n in range(1, 11)) + "END 1 11\n2 1\n2 2\n"
OUT = [f"1 {n} {FILLING}" for n in (1, 2, 3, 4, 5, 6, 7, 9, 10)] + ["END 1 11"]
OUT += [f"2 {n} {FILLING}" for n in (1, 2)]
ERR = [f"1 8 {FILLING}"]


def judged(out, err=ERR, account=ACCOUNT, **more):
    data = ["".join(f"{line}\n" for line in lines).encode() for lines in (out, err)]
    return judge(account, 2, FILLING, *data, **more)


def test_a_log_that_fits_its_account_is_clean():
    assert judged(OUT).clean
    assert judged(OUT).lines == 13
    assert judged([*OUT, f"2 3 {FILLING}"]).clean  # written, and killed before the note
    assert judged(OUT[3:], tail_only=True).clean


@pytest.mark.parametrize("at", range(len(OUT)))
def test_the_soak_sees_each_line_that_is_lost_or_repeated(at):
    assert judged(OUT[:at] + OUT[at + 1 :]).lost == 1
    assert judged(OUT[: at + 1] + OUT[at:]).repeated == 1
    assert not judged([*OUT[:at], OUT[at][:-2], *OUT[at + 1 :]]).clean


def test_where_both_died_the_end_of_a_run_may_be_missing_and_nothing_else():
    assert judged(OUT[:5] + OUT[10:], cut=True).clean
    assert judged(OUT[10:], cut=True).clean
    assert judged(OUT[1:], cut=True).lost == 1
    assert judged(OUT[:4] + OUT[5:], cut=True).lost == 1
    assert judged([*OUT[:5], OUT[4]], cut=True).repeated == 1


def test_the_soak_sees_disorder_strangers_and_torn_ends():
    assert judged([OUT[1], OUT[0], *OUT[2:]]).disordered == 1
    assert judged([*OUT, f"2 9 {FILLING}"]).foreign == 1
    assert judged([*OUT, f"3 1 {FILLING}"]).foreign == 1
    assert judged(OUT, err=[]).lost == 1
    assert judge(ACCOUNT, 2, FILLING, b"1 1", b"").foreign == 1
    assert judged(OUT[3:5] + OUT[6:], tail_only=True).lost == 1
