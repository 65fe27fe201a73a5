"""Prunes: the question, the filters, what was deleted and what that gives back."""

import io
import sys

import pytest

IMAGES = [{"Untagged": "one:1"}, {"Deleted": "sha256:ab"}]


@pytest.fixture
def told(engine):
    """An engine with something of each kind, and what it was asked."""
    engine.json("POST", "/containers/prune", {"ContainersDeleted": ["c1"], "SpaceReclaimed": 1000})
    engine.json("POST", "/images/prune", {"ImagesDeleted": IMAGES, "SpaceReclaimed": 500})
    engine.json("POST", "/volumes/prune", {"VolumesDeleted": ["v1"], "SpaceReclaimed": 7})
    engine.json("POST", "/networks/prune", {"NetworksDeleted": None})

    def asked():
        return [(where, query.get("filters", "")) for _, where, query, _ in engine.requests]

    return asked


def test_containers(told, mdocker):
    result = mdocker("container", "prune", "-f", "--filter", "until=24h", "--filter", "label!=a")
    assert result == (0, "Deleted Containers:\nc1\n\nTotal reclaimed space: 1kB\n", "")
    ((path, filters),) = told()
    assert path.endswith("/containers/prune")
    assert filters == '{"until":{"24h":true},"label!":{"a":true}}'


@pytest.mark.parametrize(("words", "which"), [((), "true"), (("-a",), "false")])
def test_images(told, mdocker, words, which):
    result = mdocker("image", "prune", "-f", *words)
    assert result.out == (
        "Deleted Images:\nuntagged: one:1\ndeleted: sha256:ab\n\nTotal reclaimed space: 500B\n"
    )
    assert f'"dangling":{{"{which}":true}}' in told()[0][1]


def test_networks(told, mdocker):
    assert mdocker("network", "prune", "--force") == (0, "", "")
    assert told()


def test_all_of_it(told, mdocker):
    result = mdocker("system", "prune", "-af", "--volumes")
    assert result.out == (
        "Deleted Containers:\nc1\n\nDeleted Volumes:\nv1\n\n"
        "Deleted Images:\nuntagged: one:1\ndeleted: sha256:ab\n\nTotal reclaimed space: 1.507kB\n"
    )
    kinds = [path.split("/")[-2] for path, _ in told()]
    assert kinds == ["containers", "networks", "volumes", "images"]


def test_until_is_not_for_volumes(told, mdocker):
    result = mdocker("system", "prune", "-f", "--volumes", "--filter", "until=1h")
    assert result.code == 1
    assert 'the "until" filter is not supported with "--volumes"' in result.err
    assert not told()


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        (["container", "prune"], "WARNING! This will remove all stopped containers."),
        (["image", "prune"], "WARNING! This will remove all dangling images."),
        (["network", "prune"], "WARNING! This will remove all custom networks not used"),
        (["volume", "prune"], "WARNING! This will remove anonymous local volumes not used"),
        (["volume", "prune", "-a"], "WARNING! This will remove all local volumes not used"),
        (
            ["system", "prune", "-a", "--volumes", "--filter", "label=x"],
            "WARNING! This will remove:\n"
            "  - all stopped containers\n"
            "  - all networks not used by at least one container\n"
            "  - all anonymous volumes not used by at least one container\n"
            "  - all images without at least one container associated to them\n\n"
            "  Items to be pruned will be filtered with:\n"
            "  - label=x\n",
        ),
    ],
)
def test_it_asks(told, mdocker, monkeypatch, words, warning):
    for answer, code, done in (
        ("n\n", 0, False),
        ("\n", 0, False),
        ("", 1, False),
        ("Y\n", 0, True),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        result = mdocker(*words)
        assert result.code == code
        assert result.err.startswith(warning)
        assert "Are you sure you want to continue? [y/N] " in result.err
        assert bool(told()) is done
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert "give --force" in mdocker(*words).err
