"""Docker's rules for `rmi`."""

from __future__ import annotations

import dataclasses

import pytest

from runtime.images.errors import ImageConflict
from runtime.images.model import Image, ImageUser
from runtime.images.removal import Plan, is_id_of, plan

DIGEST = "sha256:" + "d" * 64
HEX = "abcdef012345" + "0" * 52
RUNNING = ImageUser("1" * 64, running=True)
STOPPED = ImageUser("2" * 64, running=False)


def image(*tags):
    return Image(f"sha256:{HEX}", tags, 0, 0, {}, "amd64", "linux", ())


def test_the_last_name_takes_the_image_along():
    assert plan(image("a:1"), "a:1", False, []) == Plan(("a:1",), True)


def test_a_name_among_several_is_just_untagged_even_in_use():
    assert plan(image("a:1", "b:1"), "docker.io/library/a:1", False, [RUNNING]) == Plan(
        ("a:1",), False
    )


def test_the_last_name_of_an_image_in_use_needs_force():
    with pytest.raises(ImageConflict) as refusal:
        plan(image("busybox:latest"), "busybox:latest", False, [STOPPED])
    assert str(refusal.value) == (
        'conflict: unable to remove repository reference "busybox:latest" (must force) - '
        "container 222222222222 is using its referenced image abcdef012345"
    )
    assert refusal.value.status == 409


def test_forced_by_name():
    assert plan(image("a:1"), "a:1", True, [STOPPED]) == Plan(("a:1",), True)
    assert plan(image("a:1"), "a:1", True, [RUNNING]) == Plan(("a:1",), False)


def test_what_others_were_made_of_loses_its_name_and_stays():
    assert plan(image("a:1"), "a:1", False, [], has_children=True) == Plan(("a:1",), False)
    for force in (False, True):
        with pytest.raises(ImageConflict) as refusal:
            plan(image("a:1"), HEX, force, [], has_children=True)
        assert str(refusal.value) == (
            "conflict: unable to delete abcdef012345 (cannot be forced) - image has dependent "
            "child images"
        )


@pytest.mark.parametrize("reference", [HEX, f"sha256:{HEX}", HEX[:12], "sha256:abc", "a"])
def test_by_id(reference):
    assert is_id_of(image(), reference)
    assert plan(image("x:1"), reference, False, []) == Plan(("x:1",), True)
    assert plan(image(), reference, False, []) == Plan((), True)


def with_digest(*tags, name="a"):
    return dataclasses.replace(image(*tags), digests=(f"{name}@{DIGEST}",))


def test_the_digest_goes_with_the_last_tag_of_its_repository():
    assert plan(with_digest("a:1"), "a:1", False, []) == Plan(("a:1", f"a@{DIGEST}"), True)
    assert plan(with_digest("a:1", "a:2"), "a:1", False, []) == Plan(("a:1",), False)
    assert plan(with_digest("a:1", name="b"), "a:1", False, []) == Plan(("a:1",), False)
    assert plan(with_digest("a:1"), f"a@{DIGEST}", False, []) == Plan((f"a@{DIGEST}",), False)
    assert plan(with_digest(), f"a@{DIGEST}", False, []) == Plan((f"a@{DIGEST}",), True)


def test_a_digest_of_another_repository_is_a_name_more():
    with pytest.raises(ImageConflict, match="multiple repositories"):
        plan(with_digest("a:1", name="b"), HEX, False, [])
    whole = Plan(("a:1", f"a@{DIGEST}"), True)
    assert plan(with_digest("a:1"), HEX, False, []) == whole


def test_the_one_repository_of_an_image_in_use_needs_force():
    for reference in ("a:1", f"a@{DIGEST}"):
        with pytest.raises(ImageConflict, match=f'repository reference "{reference}"'):
            plan(with_digest("a:1"), reference, False, [STOPPED])
    assert plan(with_digest("a:1", name="b"), "a:1", False, [STOPPED]) == Plan(("a:1",), False)


def test_by_id_with_several_names_needs_force():
    with pytest.raises(ImageConflict, match=r"must be forced.*multiple repositories"):
        plan(image("a:1", "b:1"), HEX, False, [])
    assert plan(image("a:1", "b:1"), HEX, True, [STOPPED]) == Plan(("a:1", "b:1"), True)


def test_by_id_in_use():
    with pytest.raises(ImageConflict, match=r"must be forced.*stopped container 222222222222"):
        plan(image("a:1"), HEX, False, [STOPPED])
    for force in (False, True):
        with pytest.raises(ImageConflict, match=r"cannot be forced.*running container 1111111"):
            plan(image("a:1"), HEX, force, [STOPPED, RUNNING])
