"""What manifests say, and which of a list's entries is for a machine."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import BadParameter
from supervisor.registries import manifests, platforms
from supervisor.registries.errors import NoMatchingPlatform, UnsupportedManifest
from supervisor.registries.manifests import Manifest, PlatformSpec
from tests.unit.registries.manifest_texts import CONFIG, IMAGE, INDEX, LAYER, entry, text


def image(document):
    return manifests.parse_image(Manifest(manifests.OCI_MANIFEST, "sha256:x", text(document)))


def listed(*entries):
    document = text(INDEX | {"manifests": list(entries)})
    return manifests.parse_list(Manifest(manifests.OCI_INDEX, "sha256:x", document))


def test_an_image():
    found = image(IMAGE)
    assert found.config.digest == CONFIG["digest"]
    assert [(one.digest, one.size) for one in found.layers] == [(LAYER["digest"], 9)]
    assert image(IMAGE | {"layers": []}).layers == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": None}, "no object"),
        (
            {"config": CONFIG | {"mediaType": "application/vnd.cncf.helm+json"}},
            "no image",
        ),
        ({"config": CONFIG | {"digest": "sha512:" + "a" * 128}}, "no digest of sha256"),
        ({"config": CONFIG | {"digest": "sha256:../../etc"}}, "no digest of sha256"),
        ({"config": CONFIG | {"size": -1}}, "no size"),
        ({"config": CONFIG | {"size": True}}, "no size"),
        ({"config": CONFIG | {"size": 2**63}}, "no size"),
        ({"layers": None}, "no layers"),
        ({"layers": [LAYER | {"mediaType": "image/png"}]}, "unsupported media type image/png"),
        (
            {
                "layers": [
                    LAYER
                    | {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}
                ]
            },
            "not to be had from a registry",
        ),
    ],
)
def test_what_is_no_image(change, words):
    with pytest.raises(UnsupportedManifest, match=words):
        image(IMAGE | change)


_WORDS = "schemaVersion mediaType config layers manifests digest size platform os".split()
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_WORDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON, st.sampled_from([*manifests.KNOWN, "", "text/plain"]))
def test_whatever_comes_is_read_or_refused_in_words(document, kind):
    data = json.dumps(document).encode()
    try:
        found = manifests.make(data, kind, "bird:1")
        (manifests.parse_list if found.is_list else manifests.parse_image)(found)
    except UnsupportedManifest as error:
        assert str(error)


@given(st.binary(max_size=40))
def test_no_bytes_do_harm(data):
    with contextlib.suppress(UnsupportedManifest):
        manifests.make(data, "", "bird:1")


SEVERAL = (
    entry(1, "linux", "386"),
    entry(2, "linux", "amd64"),
    entry(3, "linux", "arm", "v5"),
    entry(4, "linux", "arm", "v7"),
    entry(5, "linux", "arm64", "v8"),
    entry(6, "windows", "amd64"),
    entry(7, "unknown", "unknown"),
    entry(8, "linux", "s390x"),
)


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        ("linux/amd64", 2),
        ("amd64", 2),
        ("x86_64", 2),
        ("linux/amd64/v3", 2),
        ("linux/386", 1),
        ("linux/arm64", 5),
        ("aarch64", 5),
        ("linux/arm64/v8", 5),
        ("linux/arm", 4),
        ("linux/arm/v7", 4),
        ("linux/arm/v6", 3),
        ("armel", 3),
        ("linux/s390x", 8),
        ("LINUX/AMD64", 2),
    ],
)
def test_the_best_entry_is_chosen(asked, number):
    chosen = platforms.choose(listed(*SEVERAL), platforms.parse(asked))
    assert chosen.digest == f"sha256:{number:064x}"


def test_what_a_machine_can_also_run():
    wanted = platforms.parse("linux/amd64")
    assert platforms.choose(listed(SEVERAL[0]), wanted).digest.endswith("1")
    assert platforms.choose(listed(entry(9)), wanted).digest.endswith("9")  # for all
    assert platforms.choose(listed(entry(9), SEVERAL[1]), wanted).digest.endswith("2")


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("linux/arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/ppc64le", "linux/ppc64le"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_none_fits(asked, shown):
    with pytest.raises(NoMatchingPlatform) as refusal:
        platforms.choose(listed(entry(1, "linux", "riscv64")), platforms.parse(asked))
    assert str(refusal.value) == f"no matching manifest for {shown} in the manifest list entries"


def test_no_platform_means_this_machine():
    assert platforms.parse("") == platforms.here()
    assert platforms.here().os == "linux"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("a/b/c/d", "cannot parse platform specifier"),
        ("linux/", "cannot parse platform specifier"),
        ("li nux/amd64", "cannot parse platform specifier"),
        ("vax", "unknown operating system or architecture"),
    ],
)
def test_what_is_no_platform(asked, words):
    with pytest.raises(BadParameter, match=words):
        platforms.parse(asked)


@given(st.text(max_size=12))
def test_any_text_is_a_platform_or_refused(asked):
    try:
        found = platforms.parse(asked)
    except BadParameter:
        return
    assert platforms.parse(platforms.shown(found)) == found
    assert platforms.fitness(found, found) == 0


def test_a_variant_of_a_machine_is_not_run_by_an_older_one():
    assert platforms.fitness(PlatformSpec("linux", "arm", "v7"), platforms.parse("arm/v6")) is None
    newer = PlatformSpec("linux", "amd64", "v3")
    assert platforms.fitness(newer, platforms.parse("linux/amd64")) is None
