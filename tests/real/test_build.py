"""POST /build: Dockerfiles become images, step by step."""

from __future__ import annotations

import json

import pytest

from tests.real.archives import TAR
from tests.real.building import NOTHING, build, context, left, made, run

pytestmark = pytest.mark.usefixtures("busybox")


def test_stages_and_what_is_told(engine):
    dockerfile = (
        "ARG V=latest\n"
        "FROM busybox:$V AS Base\n"
        'ENV A=1 B="x y"\n'
        "RUN echo hi; echo wrong >&2; echo $A >/a\n"
        "COPY hello /x/\n"
        "WORKDIR /w/v\n"
        "FROM base\n"
        "COPY --from=0 /a /from/b\n"
        'CMD ["sh"]\n'
    )
    built = made(engine, dockerfile, {"hello": b"hello\n"}, t=["staged", "staged:2"])
    short = built.id.removeprefix("sha256:")[:12]
    assert built.text.startswith(
        "Step 1/9 : ARG V=latest\nStep 2/9 : FROM busybox:$V AS Base\n ---> "
    )
    assert "hi\n" in built.text and "\x1b[91mwrong\n\x1b[0m" in built.text
    assert 'Step 9/9 : CMD ["sh"]\n' in built.text
    assert built.text.endswith(
        f" ---> {short}\nSuccessfully built {short}\n"
        "Successfully tagged staged:latest\nSuccessfully tagged staged:2\n"
    )
    running = built.text.partition(" ---> Running in ")[2][:12]
    assert f"Removing intermediate container {running}\n" in built.text
    assert sum("aux" in line for line in built.lines) == 2
    assert (
        run(engine, "staged", "cat /a /x/hello /from/b; pwd; echo $B") == "1\nhello\n1\n/w/v\nx y\n"
    )
    config = engine.get("/images/staged/json").json["Config"]
    assert config["Cmd"] == ["sh"] and config["WorkingDir"] == "/w/v"
    assert config["Env"][0].startswith("PATH=") and config["Env"][1:] == ["A=1", "B=x y"]
    told = [one["CreatedBy"] for one in engine.get("/images/staged/history").json]
    assert told[0] == '/bin/sh -c #(nop)  CMD ["sh"]'
    assert told[1].startswith("/bin/sh -c #(nop) COPY file:") and told[1].endswith(" in /from/b ")
    assert told[4] == "/bin/sh -c echo hi; echo wrong >&2; echo $A >/a"
    assert left(engine) == NOTHING


def test_the_cache(engine):
    dockerfile = (
        "FROM busybox\nARG WHO=nobody\nRUN echo $WHO >/who\nCOPY . /here/\nRUN ls /here\n"
        "WORKDIR /n\nLABEL a=b\n"
    )
    files = {"one": b"1", "two/": None, "two/three": b"3"}
    first = made(engine, dockerfile, files)
    assert first.cached == 0
    again = made(engine, dockerfile, files)
    assert (again.cached, again.id) == (6, first.id)
    # Times are nothing to it, modes and contents are.
    touched = context(dockerfile, files, mtime=12345)
    answer = engine.request("POST", "/build", touched, {"Content-Type": "application/x-tar"})
    assert answer.body.count(b"Using cache") == 6
    assert made(engine, dockerfile, {**files, "one": b"I"}).cached == 2
    assert made(engine, dockerfile, files, buildargs='{"WHO":"bird"}').cached == 1
    proxied = made(engine, dockerfile, files, buildargs='{"HTTP_PROXY":"http://p:1"}')
    assert proxied.cached == 6
    fresh = made(engine, dockerfile, files, nocache=1)
    assert fresh.cached == 0 and fresh.id != first.id
    # Words are not told apart by blanks alone.
    made(engine, 'FROM busybox\nRUN ["echo", "a b"]\n')
    assert made(engine, 'FROM busybox\nRUN ["echo", "a", "b"]\n').cached == 0


def test_steps_of_an_image_from_elsewhere(engine):
    """What a saved image has of its steps is its history and its layers."""
    dockerfile = "FROM busybox\nENV A=1\nRUN echo 1 >/one\nCOPY a /\nCMD x\n"
    first = made(engine, dockerfile, {"a": b"a"}, t="saved")
    saved = engine.get("/images/saved/get").body
    assert engine.delete("/images/saved").status == 200
    assert engine.request("POST", "/images/load", saved, TAR).status == 200
    assert engine.get("/images/saved/json").json["Parent"] == ""
    built = made(engine, dockerfile, {"a": b"a"}, cachefrom='["nosuch", "saved"]')
    assert (built.cached, built.id) == (4, first.id)
    built = made(engine, dockerfile, {"a": b"b"}, cachefrom='["saved"]', t="again")
    assert built.cached == 2
    assert run(engine, "again", "cat /one /a; echo $A") == "1\nb1\n"
    # Where images are named, no other counts: as in Docker.
    assert made(engine, dockerfile, {"a": b"b"}, cachefrom='["again"]').cached == 4
    assert made(engine, dockerfile, {"a": b"b"}, cachefrom='["nosuch"]').cached == 0


def test_settings(engine):
    dockerfile = """FROM busybox
MAINTAINER Ann
CMD ["old"]
ENTRYPOINT ["/bin/e"]
ENTRYPOINT /bin/f
SHELL ["/bin/sh", "-ec"]
CMD new $X
EXPOSE 80 53/udp
VOLUME /data "/more"
LABEL a=1 "b c"="d e"
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD true
USER bird
ONBUILD RUN true
ENV P=$PATH:/x Q=\\$P
WORKDIR a
WORKDIR b
"""
    built = made(engine, dockerfile, labels='{"z": "$P", "a": "2"}', t="settings")
    shown = engine.get("/images/settings/json").json
    config = shown["Config"]
    assert shown["Author"] == "Ann"
    assert config["Entrypoint"] == ["/bin/sh", "-c", "/bin/f"]
    assert config["Cmd"] == ["/bin/sh", "-ec", "new $X"]
    assert config["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert config["Volumes"] == {"/data": {}, "/more": {}}
    assert config["Labels"] == {"a": "2", "b c": "d e", "z": "$P"}
    assert (config["StopSignal"], config["User"]) == ("SIGINT", "bird")
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9}
    assert config["OnBuild"] == ["RUN true"]
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert config["Env"] == [f"PATH={path}", f"P={path}:/x", "Q=$P"]
    assert config["WorkingDir"] == "/a/b"
    assert "Step 18/19 : LABEL a=2\n" in built.text
    assert "Step 19/19 : LABEL z=$P\n" in built.text
    told = [one["CreatedBy"] for one in engine.get("/images/settings/history").json]
    assert "/bin/sh -ec #(nop)  SHELL [/bin/sh -ec]" in told  # by the new one, as in Docker
    assert told[2:4] == [f"/bin/sh -ec #(nop) WORKDIR {path}" for path in ("/a/b", "/a")]


def test_triggers_of_a_base_image(engine):
    made(engine, "FROM busybox\nONBUILD COPY in /out\nONBUILD RUN cat /out >/twice\n", t="base")
    built = made(engine, "FROM base\nRUN cat /twice\n", {"in": b"words\n"}, t="on-base")
    assert "# Executing 2 build triggers\n" in built.text and "words\n" in built.text
    # A RUN's container, and, as in Docker, what the stage begins with.
    assert built.text.partition("Step 2/2")[0].count("\n ---> ") == 2
    assert engine.get("/images/on-base/json").json["Config"]["OnBuild"] is None


def test_a_command_that_fails(engine):
    dockerfile = "FROM busybox\nRUN echo before; exit 7\nRUN echo never\n"
    built = build(engine, dockerfile, forcerm=1)
    words = "The command '/bin/sh -c echo before; exit 7' returned a non-zero code: 7"
    assert built.lines[-1] == {"error": words, "errorDetail": {"code": 7, "message": words}}
    assert "before\n" in built.text and "never" not in built.text
    assert left(engine) == NOTHING
    # Without forcerm its container stays to be looked into; a quiet build tells it all then.
    built = build(engine, dockerfile, q=1)
    assert built.error == words and "before\n" in built.text
    (container,) = left(engine)[0]
    assert engine.inspect(container)["State"]["ExitCode"] == 7
    assert engine.delete(f"/containers/{container}").status == 204
    built = build(engine, 'FROM busybox\nRUN ["/no/such"]\n')
    assert "/no/such" in built.error and "no such file or directory" in built.error
    assert left(engine) == NOTHING


def test_quiet_targets_and_what_is_not_used(engine):
    dockerfile = "FROM busybox AS one\nRUN echo 1 >/1\nFROM busybox AS two\nRUN echo 2 >/2\n"
    quiet = made(engine, dockerfile, q=1)
    assert quiet.text == f"{quiet.id}\n"
    built = made(engine, dockerfile, target="ONE", buildargs='{"NONE":"1"}')
    assert "Step 2/2 : RUN echo 1" in built.text
    assert "[Warning] One or more build-args [NONE] were not consumed\n" in built.text
    assert run(engine, built.id, "ls /1") == "/1\n"
    answer = engine.request("POST", "/build?target=three", context(dockerfile))
    assert answer.status == 400
    assert answer.message == "failed to reach build target three in Dockerfile"


def test_arguments(engine):
    dockerfile = """ARG OUTER=o
ARG BASE=busybox
FROM ${BASE:-nothing}
ARG OUTER
ARG D=default
ARG E
ENV D2=${D:+set} F=${E:-none}
ARG G=1
ENV G=2
RUN echo $OUTER $D $D2 $F $G $http_proxy >/args
FROM busybox
RUN echo "[$D]" >/none
"""
    given = json.dumps({"E": "e", "G": "9", "http_proxy": "p", "OUTER": None})
    built = made(engine, dockerfile, buildargs=given, target="0")
    assert run(engine, built.id, "cat /args") == "o default set e 2 p\n"
    built = made(engine, dockerfile, buildargs=given)
    assert run(engine, built.id, "cat /none") == "[]\n"


def test_what_a_command_runs_in(engine):
    dockerfile = """FROM busybox
USER bird
WORKDIR /tmp
SHELL ["/bin/sh", "-c", "echo $0 $1; id -u;pwd;ulimit -n;cat /etc/hosts;ls /sys/class/net", "zero"]
RUN one
"""
    built = made(
        *(engine, dockerfile),
        extrahosts=["far:10.1.2.3"],
        memory=64 << 20,
        networkmode="none",
        ulimits=json.dumps([{"Name": "nofile", "Soft": 77, "Hard": 99}]),
    )
    assert "zero one\n1234\n/tmp\n77\n" in built.text
    assert "10.1.2.3\tfar" in built.text
    assert built.text.partition("10.1.2.3")[2].split()[1] == "lo"
    assert (
        engine.request("POST", "/build?networkmode=nosuch", context("FROM busybox\n")).status == 400
    )


def test_a_volume_keeps_nothing(engine):
    dockerfile = "FROM busybox\nRUN mkdir /v; echo 1 >/v/1\nVOLUME /v\nRUN cat /v/1; echo 2 >/v/2\n"
    built = made(engine, dockerfile)
    assert engine.get("/volumes").json["Volumes"] == []
    container = engine.run("ls", "/v", image=built.id)
    assert engine.wait(container) == 0
    assert engine.output(container)[0] == b"1\n"
    assert engine.delete(f"/containers/{container}?v=1").status == 204


def test_on_this_machines_own_files(engine):
    built = made(engine, "FROM host\nRUN echo $((6*7)) >/srv/x\nCOPY f /opt/g\n", {"f": b"f\n"})
    assert run(engine, built.id, "cat /srv/x /opt/g; command -v env") == "42\nf\n/usr/bin/env\n"
    built = build(engine, "FROM host\nCOPY f /usr/local/\n", {"f": b"f\n"})
    assert "the machine's own /usr there, read-only" in built.error
    built = build(engine, "FROM host\nWORKDIR /bin/x\n")
    assert "choose another place" in built.error


def test_from_scratch(engine, busybox_tar):
    dockerfile = 'FROM scratch\nADD root.tar /\nCMD ["/bin/sh"]\n'
    built = made(engine, dockerfile, {"root.tar": busybox_tar.read_bytes()}, t="new")
    shown = engine.get("/images/new/json").json
    assert len(shown["RootFS"]["Layers"]) == 1 and shown["Parent"]
    assert run(engine, "new", "id -u") == "0\n"
    assert made(engine, dockerfile, {"root.tar": busybox_tar.read_bytes()}).id == built.id
    assert build(engine, "FROM scratch\n").error == (
        "No image was generated. Is your Dockerfile empty?"
    )
    assert "nothing to run in" in build(engine, "FROM scratch\nRUN x\n").error


@pytest.mark.parametrize(
    ("dockerfile", "status", "words"),
    [
        ("FROM busybox\nFOO bar\n", 400, "dockerfile parse error line 2: unknown instruction: FOO"),
        ("", 400, "the Dockerfile (Dockerfile) cannot be empty"),
        ("# only words\n", 400, "dockerfile parse error: file with no instructions"),
        ("RUN x\n", 400, "dockerfile parse error line 1: no build stage in current context"),
        ("FROM a b\n", 400, "line 1: FROM requires either one or three arguments"),
        ("FROM busybox\n\nRUN --mount=type=cache x\n", 400, "the --mount option requires BuildKit"),
        ("FROM busybox\nRUN cat <<EOF\nx\nEOF\n", 400, "RUN with a heredoc (<<EOF) requires Build"),
        ("FROM busybox\nCOPY x\n", 400, "COPY requires at least two arguments"),
        ("FROM busybox\nENV A\n", 400, "line 2: ENV must have two arguments"),
    ],
)
def test_refused_before_anything_is_built(engine, dockerfile, status, words):
    answer = engine.request("POST", "/build", context(dockerfile))
    assert answer.status == status
    assert words in answer.message


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("version=2", 501, "set DOCKER_BUILDKIT=0"),
        ("squash=1", 501, "squash"),
        ("outputs=%5B%7B%7D%5D", 501, "outputs"),
        ("t=Bad", 400, "must be lowercase"),
        ("t=host", 409, "taken by the built-in image"),
        ("buildargs=%7B", 400, "error reading buildargs"),
        ("buildargs=%7B%22A%22:%22%5Cu0000%22%7D", 400, "holds a NUL character"),
        ("labels=%7B%22%22:%22x%22%7D", 400, "a name is empty"),
        ("memory=1", 400, "Minimum memory limit allowed is 6MB"),
        ("networkmode=bridge", 501, "NetworkMode bridge"),
        ("cgroupparent=..%2Fx", 400, "x"),
        ("ulimits=%5B%7B%22Name%22%3A%22noway%22%7D%5D", 400, "noway"),
        ("platform=plan9/z80/x/y", 400, "cannot parse platform"),
        ("remote=git://example.org/x.git", 501, "clone it"),
        ("remote=ftp://x", 400, "no URL"),
        ("dockerfile=../x", 400, "Forbidden path outside the build context: ../x ()"),
        ("dockerfile=nosuch", 500, "Cannot locate specified Dockerfile: nosuch"),
    ],
)
def test_refused_parameters(engine, query, status, words):
    answer = engine.request("POST", f"/build?{query}", context("FROM busybox\n"))
    assert answer.status == status
    assert words in answer.message
    assert left(engine) == NOTHING


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "COPY nosuch /",
            "COPY failed: file not found in build context or excluded by .dockerignore: "
            "stat nosuch: file does not exist",
        ),
        ("COPY n* /x/", "COPY failed: no source files were specified"),
        ("COPY ../x /", "COPY failed: forbidden path outside the build context: ../x ()"),
        ("COPY [a /", "COPY failed: syntax error in pattern: [a"),
        ("COPY a b /x", "When using COPY with more than one source file"),
        (
            "COPY --chown=nosuch a /",
            "unable to convert uid/gid chown string to host mapping: unable to find user nosuch",
        ),
        ("COPY --from=7 a /", "invalid from flag value 7: index out of bounds"),
        ("COPY --from=busybox nosuch /", "COPY failed: stat nosuch: file does not exist"),
        ("COPY --from=UPPER.CASE/X a /", "invalid from flag value UPPER.CASE/X: "),
        ("FROM scratch AS a\nFROM scratch AS a", "a stage name already used"),
        ("COPY a /etc/passwd/x", "mkdir /etc/passwd: not a directory"),
        ("COPY http://x/y /", "source can't be a URL for COPY"),
        ("WORKDIR /etc/passwd", "mkdir /etc/passwd: not a directory"),
        ("ENV A=${B", 'failed to process "ENV A=${B": syntax error: missing } in substitution'),
        ("STOPSIGNAL SIGNOSUCH", "SIGNOSUCH"),
        ("ENV $NONE=1", "names can not be blank"),
        ("EXPOSE http", "invalid port: http"),
    ],
)
def test_steps_that_fail(engine, line, words):
    built = build(engine, f"FROM busybox\n{line}\n", {"a": b"", "b": b""})
    assert words in built.error
    assert left(engine) == NOTHING
