"""Maps of user namespaces."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import idmap
from runtime.plan import compile_plan
from runtime.spec import Donor, Tmpfs
from tests.unit.runtime.test_spec import SMALL

MAP = [(0, 100_000, 10), (10, 500_000, 5)]


@pytest.mark.parametrize(
    ("inside", "outside"),
    [(0, 100_000), (9, 100_009), (10, 500_000), (14, 500_004), (15, -1), (65_534, -1)],
)
def test_an_id_is_looked_up(inside, outside):
    assert idmap.outside(MAP, inside) == outside


@given(st.integers(0, 2**32 - 1))
def test_without_a_map_there_is_nobody(number):
    assert idmap.outside([], number) == -1


def test_as_the_kernel_takes_it():
    assert idmap.lines(MAP) == b"0 100000 10\n10 500000 5\n"


def test_ids_of_a_tmpfs_are_meant_inside():
    options = [b"size=1m", b"uid=3", b"gid=12", b"mode=755"]
    shifted = [b"size=1m", b"uid=100003", b"gid=500002", b"mode=755"]
    assert idmap.shifted_options(options, MAP, MAP) == shifted


def test_an_id_of_a_tmpfs_that_nobody_has_inside():
    with pytest.raises(ValueError, match="uid=15 of a tmpfs"):
        idmap.shifted_options([b"uid=15"], MAP, MAP)


@pytest.mark.parametrize(
    ("gids", "options"),
    [
        (MAP, b"mode=0620,gid=100005,max=3"),
        ([(0, 7, 5)], b"mode=0620,max=3"),  # the group of terminals has no place
    ],
)
def test_the_group_of_terminals(gids, options):
    assert idmap.terminal_options(b"mode=0620,gid=5,max=3", gids) == options


def test_a_user_namespace_reaches_the_plan():
    spec = dataclasses.replace(
        SMALL,
        user_namespace=Donor("d", 5, 6),
        uid_map=tuple(MAP),
        gid_map=((0, 7, 8),),
        shifted=("/l",),
        binds=(Tmpfs("/t", ("uid=1",)),),
    )
    plan = compile_plan(spec.to_json())
    assert (plan.uids, plan.gids, plan.shifted) == (MAP, [(0, 7, 8)], [b"/l"])
    assert (plan.user_of.id, plan.user_of.pid, plan.user_of.start_ticks) == ("d", 5, 6)
    assert plan.binds[0].options == [b"uid=100001"]
    terminals = [data for _, _, kind, _, data in plan.early if kind == b"devpts"]
    assert [data.split(b",")[-1] for data in terminals] == [b"gid=12"]


@pytest.mark.parametrize(
    "change",
    [
        {"user_namespace": "private"},
        {"uid_map": ((0, 1, 1),), "gid_map": ((0, 1, 1),)},
        {"user_namespace": "private", "uid_map": ((0, 1, 1),)},
        {"user_namespace": "mine", "uid_map": ((0, 1, 1),), "gid_map": ((0, 1, 1),)},
    ],
)
def test_half_a_user_namespace_is_refused(change):
    with pytest.raises(ValueError, match="user"):
        compile_plan(dataclasses.replace(SMALL, **change).to_json())
