"""Finding a container by name, full id or unambiguous prefix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.container import Container, ContainerConfig
from supervisor.errors import BadParameter, NameInUse, NoSuchContainer
from supervisor.registry import Registry

CONFIG = ContainerConfig(image="host", image_id="sha256:0")


def container(id, name):
    return Container(id=id.ljust(64, "0"), name=name, config=CONFIG, created_ns=1)


@pytest.fixture
def registry():
    registry = Registry()
    for id, name in (("abc1", "finch"), ("abc2", "wren"), ("fff", "abc")):
        registry.add(container(id, name))
    return registry


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("finch", "finch"),
        ("/finch", "finch"),
        ("abc1", "finch"),
        ("abc2".ljust(64, "0"), "wren"),
        ("f", "abc"),
        ("abc", "abc"),  # a name wins over the prefix of an id
    ],
)
def test_found(registry, reference, name):
    assert registry.find(reference).name == name


@pytest.mark.parametrize("reference", ["nosuch", "abc3", "0", "FINCH", "abc1" + "0" * 61])
def test_not_found(registry, reference):
    with pytest.raises(NoSuchContainer, match=f"No such container: {reference}"):
        registry.find(reference)


def test_ambiguous_prefix(registry):
    with pytest.raises(BadParameter, match="multiple IDs found with provided prefix: ab"):
        registry.find("ab")


def test_empty_reference(registry):
    with pytest.raises(BadParameter, match="must not be empty"):
        registry.find("")


def test_a_taken_name_is_refused_with_dockers_text_and_nothing_changes(registry):
    with pytest.raises(NameInUse) as caught:
        registry.add(container("777", "wren"))
    assert str(caught.value) == (
        'Conflict. The container name "/wren" is already in use by container '
        f'"{"abc2".ljust(64, "0")}". You have to remove (or rename) that container to be able '
        "to reuse that name."
    )
    assert len(registry) == 3


def test_rename_frees_the_old_name(registry):
    finch = registry.find("finch")
    with pytest.raises(NameInUse):
        registry.rename(finch, "wren")
    registry.rename(finch, "robin")
    assert registry.find("robin") is finch
    with pytest.raises(NoSuchContainer):
        registry.find("finch")


@given(st.lists(st.text("0123456789abcdef", min_size=64, max_size=64), unique=True, max_size=20))
def test_every_prefix_finds_its_own_or_is_refused(ids):
    registry = Registry()
    for number, id in enumerate(ids):
        registry.add(Container(id=id, name=f"n{number}", config=CONFIG, created_ns=1))
    for id in ids:
        for length in range(1, 65):
            prefix = id[:length]
            alone = sum(other.startswith(prefix) for other in ids) == 1
            if alone:
                assert registry.find(prefix).id == id
            else:
                with pytest.raises(BadParameter):
                    registry.find(prefix)
    for one in list(registry):
        registry.discard(one)
    assert len(registry) == 0
    assert registry.names == {}
