"""Names of images, normalised as Docker does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.images.errors import InvalidReference
from runtime.images.references import Reference, id_prefix, parse, with_tag

DIGEST = "sha256:" + "0123456789abcdef" * 4

segments = st.from_regex(r"[a-z0-9]{1,8}(?:(?:\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
paths = st.lists(segments, min_size=1, max_size=4).map("/".join)
domains = st.one_of(
    st.just("localhost"),
    st.from_regex(r"[a-z0-9]{1,6}(?:\.[a-zA-Z0-9]{1,6}){1,3}(?::[0-9]{1,5})?", fullmatch=True),
    st.from_regex(r"[a-z]{1,6}:[0-9]{1,5}", fullmatch=True),
    st.from_regex(r"\[[a-f0-9:]{2,12}\](?::[0-9]{1,5})?", fullmatch=True).filter(
        lambda text: ":" in text
    ),
)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "full", "familiar", "tagged"),
    [
        ("busybox", "docker.io/library/busybox", "busybox", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox", "busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox", "busybox", "busybox:latest"),
        ("docker.io/library/x", "docker.io/library/x", "x", "x:latest"),
        ("docker.io/x", "docker.io/library/x", "x", "x:latest"),
        ("index.docker.io/library/x:2", "docker.io/library/x", "x:2", "x:2"),
        ("docker.io/me/x", "docker.io/me/x", "me/x", "me/x:latest"),
        ("me/x", "docker.io/me/x", "me/x", "me/x:latest"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b", "library/a/b:latest"),
        ("localhost/x", "localhost/x", "localhost/x", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x", "localhost:5000/x", "localhost:5000/x:latest"),
        ("Quay.IO/x:a", "Quay.IO/x", "Quay.IO/x:a", "Quay.IO/x:a"),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x:latest"),
        ("a__b.c---d", "docker.io/library/a__b.c---d", "a__b.c---d", "a__b.c---d:latest"),
        (f"x@{DIGEST}", "docker.io/library/x", f"x@{DIGEST}", f"x@{DIGEST}"),
        (f"x:1@{DIGEST}", "docker.io/library/x", f"x:1@{DIGEST}", f"x:1@{DIGEST}"),
    ],
)
def test_normalised(text, full, familiar, tagged):
    reference = parse(text)
    assert reference.name == full
    assert reference.familiar == familiar
    assert reference.tagged() == tagged


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "invalid reference format"),
        (":tag", "invalid reference format"),
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
        ("me/Foo:1", "invalid reference format: repository name (me/Foo) must be lowercase"),
        ("a:", "invalid reference format"),
        ("a@", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a-", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("/a", "invalid reference format"),
        ("../a", "invalid reference format"),
        ("a:.tag", "invalid reference format"),
        ("a:" + "t" * 129, "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("a:b\n", "invalid reference format"),
        ("ä", "invalid reference format"),
        ("x@sha256:abc", "invalid reference format"),
        ("x@sha256:" + "a" * 63, "invalid checksum digest length"),
        ("x@sha256:" + "A" * 64, "invalid checksum digest length"),
        ("x@md5:" + "a" * 32, "unsupported digest algorithm"),
        ("a" * 250, "repository name must not be more than 255 characters"),
        (
            "f" * 64,
            f"invalid repository name ({'f' * 64}), cannot specify 64-byte hexadecimal strings",
        ),
    ],
)
def test_refused(text, words):
    with pytest.raises(InvalidReference) as refusal:
        parse(text)
    assert str(refusal.value) == words
    assert refusal.value.status == 400


@given(domains, paths, tags)
def test_what_is_written_is_read_back(domain, path, tag):
    text = f"{domain}/{path}:{tag}"
    assert parse(text) == Reference(domain, path, tag)


@given(paths, tags)
def test_the_short_form_means_the_same(path, tag):
    reference = parse(f"docker.io/{path}:{tag}")
    assert parse(reference.familiar) == reference
    assert parse(reference.tagged()) == reference


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text):
    try:
        reference = parse(text)
    except InvalidReference:
        return
    again = parse(reference.familiar)
    assert again == reference
    assert "\n" not in reference.tagged()
    assert " " not in reference.tagged()


@given(st.text(alphabet="aA0.:/@-_[]", max_size=24))
def test_any_text_of_the_grammar_is_parsed_or_refused(text):
    try:
        reference = parse(text)
    except InvalidReference:
        return
    assert parse(reference.familiar) == reference


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("abc", "abc"),
        ("sha256:abc", "abc"),
        ("a" * 64, "a" * 64),
        ("a" * 65, None),
        ("xyz", None),
        ("ABC", None),
        ("", None),
        ("sha256:", None),
        ("abc\n", None),
    ],
)
def test_what_may_be_an_id(text, digits):
    assert id_prefix(text) == digits


def test_a_tag_in_place_of_another():
    assert with_tag("docker.io/library/a", "2") == "a:2"
    assert with_tag("here:5000/a:1", "2") == "here:5000/a:2"
    for tag in ("-x", "a b", "x" * 129):
        with pytest.raises(InvalidReference, match="invalid tag format"):
            with_tag("a", tag)
    with pytest.raises(InvalidReference, match="must be lowercase"):
        with_tag("A", "2")
