"""--health-* and --no-healthcheck become the request's Healthcheck, or a line of error."""

import json

import pytest

S = 10**9


def asked(engine, mdocker, *words):
    """The Healthcheck that `create` sends; None where it sends none."""
    engine.json("POST", "/containers/create", {"Id": "a1" * 32, "Warnings": []}, 201)
    result = mdocker("create", *words, "host")
    assert result.code == 0, result.err
    (request,) = engine.seen("POST", "/containers/create")
    return json.loads(request[3]).get("Healthcheck")


@pytest.mark.parametrize(
    ("words", "check"),
    [
        ((), None),
        (("--health-cmd", "a b | c"), {"Test": ["CMD-SHELL", "a b | c"]}),
        (
            (
                *("--health-cmd=x", "--health-interval=1m30s", "--health-timeout", "250ms"),
                *("--health-retries", "5", "--health-start-period=1h"),
                *("--health-start-interval=2s", "--health-on-failure", "restart"),
            ),
            {
                "Test": ["CMD-SHELL", "x"],
                "Interval": 90 * S,
                "Timeout": S // 4,
                "Retries": 5,
                "StartPeriod": 3600 * S,
                "StartInterval": 2 * S,
                "OnFailure": "restart",
            },
        ),
        (("--health-interval", "5s"), {"Interval": 5 * S}),
        (("--no-healthcheck",), {"Test": ["NONE"]}),
    ],
)
def test_only_what_was_asked_is_sent(engine, mdocker, words, check):
    assert asked(engine, mdocker, *words) == check


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--no-healthcheck", "--health-cmd", "x"), "conflicts with --health-* options"),
        (("--health-interval", "soon"), 'invalid argument "soon" for "--health-interval"'),
        (("--health-timeout", "-1s"), "--health-timeout cannot be negative"),
        (("--health-retries", "-1"), "--health-retries cannot be negative"),
        (("--health-retries", "many"), "unable to convert"),
    ],
)
def test_what_makes_no_sense_is_refused(engine, mdocker, words, text):
    result = mdocker("run", "-d", *words, "host")
    assert result.code == 125
    assert text in result.err
    assert not engine.requests
