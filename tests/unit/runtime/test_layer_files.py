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
    return read_etc([os.fsencode(layer)], b"passwd")


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
