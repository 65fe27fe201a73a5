"""repositories.json."""

from __future__ import annotations

import errno
import json

import pytest

from runtime.images import catalogue
from runtime.images.catalogue import Catalogue
from runtime.images.errors import StoreCorrupted

A = "sha256:" + "a" * 64
B = "sha256:" + "b" * 64


def test_written_and_read_back(tmp_path):
    path = tmp_path / "repositories.json"
    assert catalogue.load(path) == Catalogue()
    state = Catalogue().with_image(A, 1, "x:1").with_image(B, 2)
    state.save(path)
    assert catalogue.load(path) == state
    assert {entry.name for entry in tmp_path.iterdir()} == {
        "repositories.json",
        ".repositories.json.spare",
    }


def test_what_gets_shorter_needs_no_room(tmp_path, monkeypatch):
    def refuse(number):
        def write(path, _data):
            raise OSError(number, "refused", str(path))

        monkeypatch.setattr(catalogue, "write_durably", write)

    path = tmp_path / "repositories.json"
    state = Catalogue().with_image(A, 1, "x:1").with_image(B, 2, "y:1")
    state.save(path)
    refuse(errno.ENOSPC)
    (tmp_path / ".repositories.json.former").touch()  # of an engine that was killed
    for name in ("x:1", "y:1"):
        state = state.without_names([name])
        state.save(path)
        assert catalogue.load(path) == state
    with pytest.raises(OSError, match="refused"):
        state.with_image(B, 2, "z:1").save(path)
    refuse(errno.EIO)
    with pytest.raises(OSError, match="refused"):
        state.without_image(A).save(path)
    refuse(errno.EDQUOT)
    state.without_image(A).save(path)
    (tmp_path / ".repositories.json.spare").unlink()
    with pytest.raises(OSError, match="refused"):
        Catalogue().save(path)
    assert catalogue.load(path) == state.without_image(A)


def test_what_an_image_was_made_of(tmp_path):
    path = tmp_path / "repositories.json"
    state = Catalogue().with_image(A, 1).with_image(B, 2, "x:1", A)
    state.save(path)
    assert catalogue.load(path) == state
    assert state.parents == {B: A}
    assert (state.children_of(A), state.children_of(B)) == ((B,), ())
    assert state.without_image(B) == Catalogue({A: 1})


def test_a_name_moves_to_the_newer_image():
    state = Catalogue().with_image(A, 1, "x:1").with_image(A, 9, "y:1").with_image(B, 2, "x:1")
    assert state.tags_of(A) == ("y:1",)
    assert state.tags_of(B) == ("x:1",)
    assert state.images == {A: 1, B: 2}
    assert state.without_names(("y:1",)).images == {A: 1, B: 2}
    assert state.without_image(B) == Catalogue({A: 1}, {"y:1": A})


def test_when_a_name_was_given_here(tmp_path):
    path = tmp_path / "repositories.json"
    state = Catalogue().with_image(A, 1, "x:1").with_image(B, 2, "y:1", tagged_ns=3)
    state.save(path)
    assert catalogue.load(path).tagged == {B: 3}
    assert state.with_image(B, 9, "z:1", tagged_ns=4).tagged == {B: 4}
    assert state.without_image(B) == Catalogue({A: 1}, {"x:1": A})


def test_what_is_retired_is_no_image_and_can_be_one_again(tmp_path):
    path = tmp_path / "repositories.json"
    state = Catalogue().with_image(A, 1, "x:1", tagged_ns=2).with_image(B, 3, "y:1", A)
    retired = state.with_retired(A)
    assert retired == Catalogue({B: 3}, {"y:1": B}, {B: A}, retired={A: 1})
    retired.save(path)
    assert catalogue.load(path) == retired
    assert retired.without_image(B).retired == {A: 1}
    assert retired.without_retired([A]).retired == {}
    assert retired.with_image(A, 9, "x:2").retired == {}


def test_all_names_at_once():
    state = Catalogue().with_image(A, 1, "y:1", digests=[f"y@{B}"]).with_image(A, 1, "x:1")
    state = state.with_image(B, 2, digests=[f"z@{A}"])
    assert state.names() == {A: (("x:1", "y:1"), (f"y@{B}",)), B: ((), (f"z@{A}",))}
    assert state.names()[A][0] == state.tags_of(A)
    assert Catalogue().with_image(A, 1).names() == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 1}',
        '{"version": 1, "images": [], "tags": {}}',
        '{"version": 1, "images": {"sha256:x": {"added_ns": 1}}, "tags": {}}',
        '{"version": 1, "images": {"../../etc": {"added_ns": 1}}, "tags": {}}',
        '{"version": 1, "images": {}, "tags": {"a:1": "sha256:x"}}',
        json.dumps({"version": 1, "images": {A: {}}, "tags": {}}),
        json.dumps({"version": 3, "images": {}, "tags": {}, "digests": {}}),
        "\x00" * 100,
    ],
)
def test_a_damaged_file_is_named_and_left_alone(tmp_path, text):
    path = tmp_path / "repositories.json"
    path.write_text(text)
    with pytest.raises(StoreCorrupted) as refusal:
        catalogue.load(path)
    assert str(path) in str(refusal.value)
    assert path.read_text() == text
