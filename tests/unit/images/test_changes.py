"""Dockerfile instructions in `import --change`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.images.changes import apply_changes
from runtime.images.errors import InvalidChange


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        ([], {}),
        (["", "  ", "# nothing"], {}),
        (['CMD ["/bin/sh", "-l"]'], {"Cmd": ["/bin/sh", "-l"]}),
        (["CMD echo $HOME"], {"Cmd": ["/bin/sh", "-c", "echo $HOME"]}),
        (["cmd top"], {"Cmd": ["/bin/sh", "-c", "top"]}),
        (["CMD a", "CMD b"], {"Cmd": ["/bin/sh", "-c", "b"]}),
        (["CMD []"], {"Cmd": []}),
        (["CMD ['a']"], {"Cmd": ["/bin/sh", "-c", "['a']"]}),
        (['ENTRYPOINT ["/init"]'], {"Entrypoint": ["/init"]}),
        (["ENTRYPOINT /init now"], {"Entrypoint": ["/bin/sh", "-c", "/init now"]}),
        (["ENV A=1 B=2"], {"Env": ["A=1", "B=2"]}),
        (["ENV A the rest  of it"], {"Env": ["A=the rest  of it"]}),
        (["ENV A=\"x y\" B='$A' C=x\\ y"], {"Env": ["A=x y", "B=$A", "C=x y"]}),
        (["ENV A=1", "ENV B=$A/${A} C=\\$A"], {"Env": ["A=1", "B=1/1", "C=$A"]}),
        (["ENV A=1", "ENV A=2 B=$A"], {"Env": ["A=2", "B=1"]}),
        (["ENV B=${A:-d} C=${A:+x}"], {"Env": ["B=d", "C="]}),
        (["ENV A=a=b"], {"Env": ["A=a=b"]}),
        (
            ["EXPOSE 80 443/tcp 53/UDP"],
            {"ExposedPorts": {"80/tcp": {}, "443/tcp": {}, "53/udp": {}}},
        ),
        (["EXPOSE 8000-8002"], {"ExposedPorts": {f"{p}/tcp": {} for p in (8000, 8001, 8002)}}),
        (['LABEL a=1 "b c"="d e"'], {"Labels": {"a": "1", "b c": "d e"}}),
        (["LABEL a=1", "LABEL b=2"], {"Labels": {"a": "1", "b": "2"}}),
        (["USER bird:flock"], {"User": "bird:flock"}),
        (["ENV U=7", "USER $U"], {"Env": ["U=7"], "User": "7"}),
        (["WORKDIR /a", "WORKDIR b/../c"], {"WorkingDir": "/a/c"}),
        (["WORKDIR /a b"], {"WorkingDir": "/a b"}),
        (["VOLUME /data /log"], {"Volumes": {"/data": {}, "/log": {}}}),
        (['VOLUME ["/d a"]'], {"Volumes": {"/d a": {}}}),
        (["STOPSIGNAL SIGINT"], {"StopSignal": "SIGINT"}),
        (["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
        (["HEALTHCHECK cmd up $X"], {"Healthcheck": {"Test": ["CMD-SHELL", "up $X"]}}),
        (['HEALTHCHECK CMD ["up", "x"]'], {"Healthcheck": {"Test": ["CMD", "up", "x"]}}),
        (
            ["HEALTHCHECK --interval=1m30s --timeout=1.5s  --retries=2 CMD up --x"],
            {
                "Healthcheck": {
                    "Test": ["CMD-SHELL", "up --x"],
                    "Interval": 90 * 10**9,
                    "Timeout": 1_500_000_000,
                    "Retries": 2,
                }
            },
        ),
        (
            ["HEALTHCHECK --start-period=0 --start-interval=5ms CMD up"],
            {"Healthcheck": {"Test": ["CMD-SHELL", "up"], "StartInterval": 5 * 10**6}},
        ),
        (["STOPSIGNAL 15"], {"StopSignal": "15"}),
        (["ONBUILD RUN a b", "onbuild add x y"], {"OnBuild": ["RUN a b", "add x y"]}),
        (
            ["CMD a", 'SHELL ["/b", "-e"]', "CMD c"],
            {"Cmd": ["/b", "-e", "c"], "Shell": ["/b", "-e"]},
        ),
        (["CMD a\nENV B=1 \\\n C=2\n"], {"Cmd": ["/bin/sh", "-c", "a"], "Env": ["B=1", "C=2"]}),
        (["CMD a", 'ENTRYPOINT ["e"]'], {"Cmd": ["/bin/sh", "-c", "a"], "Entrypoint": ["e"]}),
        (["STOPSIGNAL SIGRTMIN+3"], {"StopSignal": "SIGRTMIN+3"}),
        (["ENV A=1 \\\n  B=2"], {"Env": ["A=1", "B=2"]}),
    ],
)
def test_applied(changes, config):
    assert apply_changes(changes) == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("RUN make", "RUN is not a valid change command"),
        ("FROM x", "FROM is not a valid change command"),
        ("nonsense", "nonsense is not a valid change command"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE x", "takes no arguments"),
        ("HEALTHCHECK --retries=2 NONE", "takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK curl", "Unknown type 'curl' in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK --interval=soon CMD x", "invalid --interval: 'soon'"),
        ("HEALTHCHECK --interval CMD x", "invalid --interval: ''"),
        ("HEALTHCHECK --timeout=1us CMD x", "--timeout '1us' cannot be less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD x", "invalid --retries: '-1'"),
        ("HEALTHCHECK --colour=red CMD x", "Unknown flag: colour"),
        ("ONBUILD ONBUILD x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("SHELL /bin/sh", "SHELL requires the arguments to be in JSON form"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("USER", "USER requires exactly one argument"),
        ("CMD", "CMD requires at least one argument"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments (in the change: ENV A)"),
        ("ENV A=1 B", "can't find = in 'B'"),
        ("ENV =1", "names can not be blank"),
        ('ENV A="x', 'while looking for matching "'),
        ("ENV A=${B", "missing } in substitution"),
        ("EXPOSE 0", "invalid port: 0"),
        ("EXPOSE 65536", "invalid port: 65536"),
        ("EXPOSE 9-8", "invalid port: 9-8"),
        ("EXPOSE http", "invalid port: http"),
        ("EXPOSE 80/foo", "invalid port: 80/foo"),
        ("USER a b", "USER requires exactly one argument"),
        ("STOPSIGNAL no!", "invalid signal: no!"),
        ('VOLUME [""]', "can not be an empty string"),
    ],
)
def test_refused(change, words):
    with pytest.raises(InvalidChange) as refusal:
        apply_changes([change])
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_changes_of_what_there_is():
    before = {
        "Cmd": ["old"],
        "Env": ["A=1"],
        "Labels": {"a": "1"},
        "Volumes": None,
        "WorkingDir": "/w",
        "OnBuild": ["RUN x"],
    }
    kept = repr(before)
    made = apply_changes(
        ["ENTRYPOINT /e", "ENV B=$A", "LABEL b=2", "VOLUME /v", "WORKDIR d", "ONBUILD RUN y"],
        before,
    )
    assert repr(before) == kept
    assert made == {
        "Entrypoint": ["/bin/sh", "-c", "/e"],
        "Env": ["A=1", "B=1"],
        "Labels": {"a": "1", "b": "2"},
        "Volumes": {"/v": {}},
        "WorkingDir": "/w/d",
        "OnBuild": ["RUN x", "RUN y"],
    }


@given(st.text(max_size=60))
def test_any_text_is_applied_or_refused(text):
    for word in (
        "",
        "HEALTHCHECK ",
        "ENV ",
        "LABEL ",
        "CMD ",
        "EXPOSE ",
        "VOLUME ",
        "WORKDIR ",
        "USER ",
    ):
        try:
            apply_changes([word + text])
        except InvalidChange:
            continue


values = st.text(alphabet=st.characters(exclude_characters="\0\n\r'", codec="utf-8"), max_size=20)


@given(values)
def test_single_quotes_keep_all(value):
    assert apply_changes([f"ENV A='{value}'"]) == {"Env": [f"A={value}"]}
