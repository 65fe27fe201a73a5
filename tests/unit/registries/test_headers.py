"""Headers that registries send: challenges, links, patience; and the one that clients send us."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import BadParameter
from supervisor.registries import challenges, credentials
from supervisor.registries.backoff import Backoff, retry_after
from supervisor.registries.challenges import Challenge
from supervisor.registries.credentials import Credentials
from supervisor.registries.errors import RegistryFault, RegistryUnreachable, TooManyRequests
from supervisor.registries.links import following
from supervisor.registries.refusals import parse as parse_refusal


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (['Basic realm="a nest"'], [Challenge("basic", {"realm": "a nest"})]),
        (["Basic"], [Challenge("basic")]),
        (
            ['Bearer realm="https://a/t?x=1,2",service="s", scope="repository:a:pull,push x:y:z"'],
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://a/t?x=1,2",
                        "service": "s",
                        "scope": "repository:a:pull,push x:y:z",
                    },
                )
            ],
        ),
        (
            ['Basic realm=x, BEARER Realm = "y\\"z", error=invalid_token'],
            [
                Challenge("basic", {"realm": "x"}),
                Challenge("bearer", {"realm": 'y"z', "error": "invalid_token"}),
            ],
        ),
        (
            ["Negotiate", 'Bearer realm="a"'],
            [Challenge("negotiate"), Challenge("bearer", {"realm": "a"})],
        ),
        (
            ['Negotiate YWJj==, Basic realm="x"'],
            [Challenge("negotiate"), Challenge("basic", {"realm": "x"})],
        ),
        (['Bearer realm="no end'], [Challenge("bearer")]),
        (["", ",,", "="], []),
    ],
)
def test_challenges(values, found):
    assert challenges.parse(values) == found


def test_a_token_is_preferred_to_a_password():
    basic, bearer = Challenge("basic", {"realm": "1"}), Challenge("bearer")
    assert challenges.choose([basic, bearer]) == bearer
    assert challenges.choose([basic, Challenge("basic")]) == basic
    assert challenges.choose([Challenge("negotiate")]) is None
    assert Challenge("bearer", {"scope": "a:b:c d:e:f"}).scopes == ("a:b:c", "d:e:f")


@given(st.lists(st.text(max_size=60), max_size=3))
def test_any_header_is_read(values):
    for challenge in challenges.parse(values):
        assert challenge.scheme == challenge.scheme.lower()


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(max_size=20), max_size=4)
)
def test_what_is_quoted_comes_out_as_it_went_in(parameters):
    quoted = {
        key: text.replace("\\", "\\\\").replace('"', '\\"') for key, text in parameters.items()
    }
    header = "Bearer " + ", ".join(f'{key}="{text}"' for key, text in quoted.items())
    assert challenges.parse([header])[0].parameters == parameters


@pytest.mark.parametrize(
    ("links", "where"),
    [
        (['</v2/x/tags/list?n=2&last=b>; rel="next"'], "/v2/x/tags/list?n=2&last=b"),
        (["<?last=b>;rel=next"], "/v2/x/tags/list?last=b"),
        (['<http://nest:1/p>; title="x"; REL="prev next"'], "/p"),
        (["<a>; rel=prev, <b>; rel=next"], "/v2/x/tags/b"),
        (["<a>; rel=prev", "<b>; rel=next"], "/v2/x/tags/b"),
        (["<a>; rel=nextish", "nonsense", "<"], ""),
        ([], ""),
    ],
)
def test_where_a_list_goes_on(links, where):
    assert following("http://nest:1/v2/x/tags/list", links) == where


@given(st.lists(st.text(max_size=40), max_size=3))
def test_any_link_is_read_or_refused(links):
    try:
        found = following("http://nest/v2/", links)
    except RegistryFault:
        return
    assert "://nest" not in found


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("9" * 400, 999_999_999.0),
    ],
)
def test_the_patience_that_is_asked_for(header, seconds):
    assert retry_after(header) == seconds


@given(st.integers(1, 40))
def test_waits_double_up_to_a_bound(failures):
    backoff = Backoff(first_s=1.0, most_s=16.0)
    longest = min(2.0 ** (failures - 1), 16.0)
    assert longest / 2 <= backoff.delay(failures) <= longest


def test_what_is_tried_again():
    backoff = Backoff(tries=3)
    assert backoff.wait_after(RegistryUnreachable(""), 2, 3) is not None
    assert backoff.wait_after(RegistryUnreachable(""), 3, 3) is None
    assert backoff.wait_after(RegistryFault(""), 1, 3) is None
    assert backoff.wait_after(TooManyRequests("", 30.0), 1, 3) == 30.0
    assert backoff.wait_after(TooManyRequests("", 61.0), 1, 3) is None


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", None),
        ("e30=", None),
        ("e30", None),
        (encoded(None), None),
        (encoded({"username": "", "password": ""}), None),
        (encoded({"username": "a", "password": "b?>"}), Credentials("a", "b?>")),
        (encoded({"UserName": "a", "Password": None}), Credentials("a")),
        (encoded({"auth": base64.b64encode(b"a:b:c").decode()}), Credentials("a", "b:c")),
        (encoded({"identitytoken": "t"}), Credentials(identity_token="t")),
        (encoded({"registrytoken": "t", "x": 1}), Credentials(registry_token="t")),
        (
            encoded({"username": "ä", "serveraddress": "nest:1"}),
            Credentials("ä", server_address="nest:1"),
        ),
        (encoded({"username": "~~~?"}).replace("_", "/").replace("-", "+"), Credentials("~~~?")),
    ],
)
def test_credentials_of_a_client(header, found):
    assert credentials.from_header(header) == found


@pytest.mark.parametrize(
    "header",
    [
        "!!",
        "aGk=",
        encoded([]),
        encoded("x"),
        encoded({"username": 7}),
        encoded({"auth": "!"}),
        encoded({"auth": base64.b64encode(b"no colon").decode()}),
        encoded({"registrytoken": "a\r\nHost: b"}),
        "A" * 100_000,
    ],
)
def test_malformed_credentials_are_refused_and_not_repeated(header):
    with pytest.raises(BadParameter, match=r"^invalid X-Registry-Auth header: ") as refusal:
        credentials.from_header(header)
    assert header not in str(refusal.value)


@given(st.text(max_size=30))
def test_any_credentials_are_read_or_refused(header):
    try:
        credentials.from_header(header)
    except BadParameter as error:
        assert str(error)


def test_credentials_do_not_show_their_secrets():
    shown = repr(Credentials("bird", "secret", "token-1", "token-2", "nest"))
    assert "bird" in shown
    assert not any(word in shown for word in ("secret", "token-1", "token-2"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"errors":[{"code":"NAME_UNKNOWN","message":"m"},{"code":"X"}]}', "name unknown: m"),
        (b'{"errors":[{"code":"DENIED"}]}', "denied"),
        (b'{"errors":[{"message":"a\\nb"}]}', "a b"),
        (b'{"details":"d"}', "d"),
        (b'{"error":"e"}', "e"),
        (b'{"errors":[]}', ""),
        (b'{"errors":[7]}', ""),
        (b"<html>", ""),
        (b"[]", ""),
        (b"", ""),
    ],
)
def test_what_a_refusal_says(body, words):
    assert parse_refusal(body).words == words


@given(st.binary(max_size=60))
def test_any_refusal_is_read(body):
    assert parse_refusal(body).words.isprintable()
