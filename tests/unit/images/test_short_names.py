"""Short names of layers: one for each, mended at every opening."""

from __future__ import annotations

import os

import pytest

from runtime.images.short_names import ShortNames

_A = "a" * 64
_B = "aaaaaaab" + "0" * 56
_C = "c" * 64


@pytest.fixture
def layers(tmp_path):
    for digits in (_A, _B, _C):
        (tmp_path / "layers" / digits / "fs").mkdir(parents=True)
        (tmp_path / "layers" / digits / "fs" / digits[:8]).touch()
    return tmp_path / "layers"


def opened(layers):
    return ShortNames(layers.parent / "short", layers)


def led_to(names, digits):
    return os.listdir(names.path(digits))


def test_each_layer_has_a_name_of_its_own(layers):
    names = opened(layers)
    for digits in (_A, _B, _C):
        assert led_to(names, digits) == [digits[:8]]
    assert sorted(os.listdir(layers.parent / "short")) == ["aaaaaa", "aaaaaaa", "cccccc"]
    assert names.amiss() == []
    again = opened(layers)
    assert [again.path(one) for one in (_A, _B, _C)] == [names.path(one) for one in (_A, _B, _C)]


def test_what_is_amiss_is_mended_at_the_next_opening(layers):
    names = opened(layers)
    short = layers.parent / "short"
    (short / "cccccc").unlink()
    (short / "cccccc").symlink_to(f"../layers/{_A}/fs")
    (short / "aaaaaa").unlink()
    (short / "dddddd").symlink_to(f"../layers/{'d' * 64}/fs")
    (short / "eeeeee").write_text("no link")
    (short / "ffffff").mkdir()
    assert [line.split()[-1] for line in names.amiss()] == [_A, _C]
    names = opened(layers)
    assert names.amiss() == []
    assert sorted(os.listdir(short)) == ["aaaaaa", "aaaaaaa", "cccccc", "ffffff"]
    for digits in (_A, _B, _C):
        assert led_to(names, digits) == [digits[:8]]


def test_a_name_that_is_given_up_is_free(layers):
    names = opened(layers)
    path = names.path(_A)
    names.remove(_A)
    names.remove(_A)
    assert not os.path.lexists(path)
    with pytest.raises(KeyError):
        names.path(_A)
    assert led_to(names, _B) == [_B[:8]]
    names.remove(_B)
    names.add(_B)
    assert names.path(_B) == path
    names.add(_A)
    assert (led_to(names, _A), led_to(names, _B)) == ([_A[:8]], [_B[:8]])


def test_what_is_in_the_place_of_a_name_goes(layers):
    names = opened(layers)
    names.remove(_C)
    (layers.parent / "short/cccccc").write_text("no link")
    names.add(_C)
    assert led_to(names, _C) == [_C[:8]]


def test_a_name_can_be_given_before_its_layer_is_there(layers):
    names = opened(layers)
    names.add("d" * 64)
    names.add("d" * 64)
    assert names.path("d" * 64).endswith("/short/dddddd")
    assert not os.path.exists(names.path("d" * 64))
