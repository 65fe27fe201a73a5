"""Log options: read from Docker's words, refused in ours, and what stands in the records."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logs.attributes import Subject, attributes
from logs.drivers import LogDriverUnknown, LogOptionRefused, Stream, check_options, open_log
from logs.options import DEFAULTS, LogOptions, parse
from logs.reader import read

ID = "ab" * 32


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({}, DEFAULTS),
        ({}, LogOptions(20_000_000, 5)),
        ({"max-size": "10m"}, LogOptions(10_000_000, 1)),
        ({"max-size": "1.5k", "max-file": "3"}, LogOptions(1500, 3)),
        ({"max-size": "1kib"}, LogOptions(1024, 1)),
        ({"max-size": "2 GB"}, LogOptions(2_000_000_000, 1)),
        ({"max-size": "777"}, LogOptions(777, 1)),
        ({"max-size": "-1"}, LogOptions(0, 1)),
        ({"max-file": "2"}, LogOptions(20_000_000, 2)),
        ({"compress": "true"}, LogOptions(20_000_000, 5, compress=True)),
        ({"compress": "F", "mode": "blocking"}, DEFAULTS),
        ({"mode": "non-blocking"}, LogOptions(blocking=False)),
        (
            {"mode": "non-blocking", "max-buffer-size": "4m"},
            LogOptions(blocking=False, max_buffer_size=4 << 20),
        ),
    ],
)
@pytest.mark.parametrize("driver", ["json-file", "k8s-file"])
def test_read(driver, asked, options):
    assert parse(driver, asked) == options


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"max-size": "0"}, "max-size must be a positive number, or -1"),
        ({"max-size": "-5"}, "'-5' is no size: write 10m"),
        ({"max-size": "ten"}, "'ten' is no size"),
        ({"max-size": ""}, "'' is no size"),
        ({"max-size": "1e9"}, "is no size"),
        ({"max-file": "0"}, "max-file cannot be less than 1"),
        ({"max-file": "two"}, "'two' is no whole number"),
        ({"max-file": "1000000"}, "is too many: give at most 1000"),
        ({"compress": "yes"}, "invalid compress: 'yes': write true or false"),
        ({"compress": "true", "max-size": "1m"}, "compress cannot be true when max-file is less"),
        ({"compress": "true", "max-size": "-1", "max-file": "3"}, "or max-size is not set"),
        ({"mode": "fast"}, "logging mode not supported: 'fast'"),
        ({"max-buffer-size": "1m"}, "only supported with mode=non-blocking"),
        ({"mode": "non-blocking", "max-buffer-size": "1"}, "too small: give at least 64k"),
        ({"tga": "x"}, "unknown log opt 'tga' for json-file log driver"),
        ({"labels-regex": "("}, "invalid labels-regex: '('"),
        ({"tag": "{{.Nome}}"}, "no field {{.Nome}}: use one of {{.ID}}"),
        ({"tag": "{{.Name"}, "without its }}"),
    ],
)
def test_refused_in_words(asked, text):
    with pytest.raises(LogOptionRefused) as caught:
        check_options("json-file", asked)
    assert text in str(caught.value)


def test_drivers_that_have_no_place():
    with pytest.raises(LogOptionRefused, match="k8s-file log driver: its format has no place"):
        check_options("k8s-file", {"tag": "x"})
    with pytest.raises(LogOptionRefused, match="none log driver: it keeps nothing"):
        check_options("none", {"max-size": "1m"})
    with pytest.raises(LogDriverUnknown, match='unknown log driver "fluentd"'):
        check_options("fluentd", {"max-size": "1m"})
    with pytest.raises(LogOptionRefused, match="logger: no log driver named 'x' is"):
        check_options("x", {})


@given(st.text(max_size=12))
def test_any_size_is_read_or_refused(text):
    try:
        options = parse("json-file", {"max-size": text})
    except LogOptionRefused:
        return
    assert options.max_size >= 0


SUBJECT = Subject(
    id=ID,
    name="bird",
    image_id="sha256:" + "cd" * 32,
    image_name="host",
    command=("sh", "-c", "true"),
    labels={"com.example.tier": "front", "com.example.team": 'a "b" <c>', "other": "é\u2028"},
    env=("PATH=/bin", "MODE=a=b", "EMPTY=", "NOTHING"),
)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, None),
        ({"max-size": "1m"}, None),
        ({"labels": "nosuch"}, None),
        ({"labels": "other,com.example.tier"}, {"com.example.tier": "front", "other": "é\u2028"}),
        (
            {"labels-regex": r"^com\.example\.te"},
            {"com.example.team": 'a "b" <c>'},
        ),
        ({"env": "MODE,EMPTY,NOTHING"}, {"MODE": "a=b", "EMPTY": ""}),
        ({"env-regex": "^P"}, {"PATH": "/bin"}),
        ({"tag": "x"}, {"tag": "x"}),
        ({"tag": "{{.Name}}/{{ .ID }}"}, {"tag": "bird/abababababab"}),
        (
            {"tag": "{{.FullID}} {{.ImageName}} {{.ImageID}} {{.ImageFullID}} {{.DaemonName}}"},
            {"tag": f"{ID} host cdcdcdcdcdcd sha256:{'cd' * 32} docker"},
        ),
        ({"tag": "{{.Command}}"}, {"tag": "sh -c true"}),
        ({"tag": "", "env": "PATH"}, {"PATH": "/bin"}),
    ],
)
def test_attributes(asked, found):
    check_options("json-file", asked)
    made = attributes(asked, SUBJECT)
    if found is None:
        assert made == b""
        return
    assert json.loads(made) == found
    assert list(json.loads(made)) == sorted(found)


def test_attributes_are_escaped_as_go_does():
    made = attributes({"labels-regex": "."}, SUBJECT)
    assert made == (
        b'{"com.example.team":"a \\"b\\" \\u003cc\\u003e","com.example.tier":"front",'
        b'"other":"\xc3\xa9\\u2028"}'
    )


@pytest.mark.parametrize("asked", [{"labels-regex": "."}, {"tag": '"},"time":"x"}\n'}])
def test_records_with_attributes_are_dockers_and_are_read_back(tmp_path, asked):
    """The attributes stand between stream and time, as in a log that dockerd 20.10 wrote."""
    log = open_log("json-file", tmp_path, ID, asked, SUBJECT)
    out, err = log.stream(Stream.STDOUT), log.stream(Stream.STDERR)
    for number in range(300):
        out.append(b'out %d "quoted"\n' % number)
        err.append(b"err one\nerr two\n" * 30 if number % 50 == 0 else b"err %d\n" % number)
    out.append(b"x" * 40_000 + b"\n")
    log.close()
    with open(log.path, "rb") as file:
        raw = file.read().splitlines()
    expected = {"out": b"", "err": b""}
    for line in raw:
        record = json.loads(line)
        assert list(record) == ["log", "stream", "attrs", "time"]
        assert record["attrs"] == json.loads(attributes(asked, SUBJECT))
        expected[record["stream"][3:]] += record["log"].encode()
    for name, stream in (("out", Stream.STDOUT), ("err", Stream.STDERR)):
        assert b"".join(read(log.path, "json-file", streams=[stream])) == expected[name]
        stamped = b"".join(read(log.path, "json-file", streams=[stream], timestamps=True))
        assert len(stamped) > len(expected[name])
    whole = b"".join(json.loads(line)["log"].encode() for line in raw)
    assert b"".join(read(log.path, "json-file")) == whole
    assert b"".join(read(log.path, "json-file", tail=100)) == b"".join(
        json.loads(line)["log"].encode() for line in raw[-100:]
    )


@pytest.mark.parametrize("driver", ["json-file", "k8s-file"])
def test_details(tmp_path, driver):
    asked = {"labels": "com.example.team", "tag": "{{.Name}}"} if driver == "json-file" else {}
    log = open_log(driver, tmp_path, ID, asked, SUBJECT)
    log.stream(Stream.STDOUT).append(b"one\ntwo\n")
    log.stream(Stream.STDERR).append(b"three\n")
    log.close()
    before = b"com.example.team=a+%22b%22+%3Cc%3E,tag=bird " if asked else b" "
    assert b"".join(read(log.path, driver, details=True)) == b"".join(
        before + line for line in (b"one\n", b"two\n", b"three\n")
    )
    (only,) = read(log.path, driver, details=True, timestamps=True, tail=1)
    assert only.split(b" ", 1)[1] == before + b"three\n"


def test_a_tag_may_hold_anything(tmp_path):
    log = open_log("json-file", tmp_path, ID, {"tag": 'a"b\\c{{.Name}}'}, SUBJECT)
    log.stream(Stream.STDOUT).append(b"line\n")
    log.close()
    with open(log.path) as file:
        assert json.loads(file.read())["attrs"] == {"tag": 'a"b\\cbird'}
    assert b"".join(read(log.path, "json-file")) == b"line\n"
