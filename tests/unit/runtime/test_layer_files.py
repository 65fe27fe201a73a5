"""Files of /etc in a layer whose container runs, and changes it while we read."""

import os

import pytest

from runtime.layer_files import Unusual, read_etc


@pytest.fixture
def layer(tmp_path):
    for place, content in (("upper", b"the container's"), ("machine", b"the machine's")):
        (tmp_path / place / "etc").mkdir(parents=True)
        (tmp_path / place / "etc/passwd").write_bytes(content)
    return tmp_path / "upper"


def read(layer):
    (content,) = read_etc([os.fsencode(layer)], [b"passwd"])
    return content


def test_each_file_is_the_topmost_one(tmp_path):
    for number, names in enumerate((("group",), (), ("passwd", "group"), ("passwd",))):
        (tmp_path / f"{number}/etc").mkdir(parents=True)
        for name in names:
            (tmp_path / f"{number}/etc/{name}").write_text(f"{name} {number}")
    (tmp_path / "1/etc").rmdir()
    layers = [os.fsencode(tmp_path / str(number)) for number in range(4)]
    assert read_etc(layers, [b"passwd", b"group"]) == [b"passwd 2", b"group 0"]
    assert read_etc(layers[:2], [b"passwd", b"group"]) == [b"", b"group 0"]


def test_a_directory_that_becomes_a_link_once_it_was_looked_at_leads_nowhere(layer, monkeypatch):
    def looking(look):
        def wrapped(path, *arguments, **options):
            seen = look(path, *arguments, **options)
            if os.fspath(path) == os.fsencode(layer / "etc"):
                (layer / "etc").rename(layer / "was-etc")
                (layer / "etc").symlink_to("../machine/etc")
            return seen

        return wrapped

    for name in ("open", "lstat"):
        monkeypatch.setattr(os, name, looking(getattr(os, name)))
    assert read(layer) == b"the container's"


def test_links_are_for_others(layer):
    (layer / "etc").rename(layer / "was-etc")
    (layer / "etc").symlink_to("was-etc")
    with pytest.raises(Unusual):
        read(layer)
    (layer / "etc").unlink()
    (layer / "etc").write_bytes(b"a file")
    with pytest.raises(Unusual):
        read(layer)
