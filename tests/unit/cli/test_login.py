"""`login`, `logout`, and the file and the helper programs in which the docker CLI keeps logins."""

import base64
import io
import json
import os
import stat
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdocker import credentials
from mdocker.config_file import ConfigFile, ConfigFileError, Login
from mdocker.credential_helpers import HelperFailed
from mdocker.registry_names import HUB, registry_of, server_key
from tests.terminal_session import Session
from tests.unit.cli.conftest import CHECKOUT

HELPER = """#!/bin/sh
# A helper that keeps logins as files of a directory.
cd "$(dirname "$0")/kept" || exit 2
read -r line || true
name=$(printf %s "$line" | tr -c 'a-zA-Z0-9.' _)
case $1 in
get) cat "$name" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
store) printf %s "$line" >"$(printf %s "$line" |
    sed 's/.*"ServerURL": "\\([^"]*\\)".*/\\1/' | tr -c 'a-zA-Z0-9.' _)" ;;
erase) rm -f "$name" ;;
list) echo "{\\"nest:2\\": \\"bird\\"}" ;;
esac
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The directory of config.json, for this test alone."""
    place = tmp_path / "docker"
    monkeypatch.setenv("DOCKER_CONFIG", str(place))
    return place


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """A credential helper called `nest`; returns the directory where it keeps logins."""
    programs = tmp_path / "programs"
    (programs / "kept").mkdir(parents=True)
    program = programs / "docker-credential-nest"
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return programs / "kept"


def write(place, content):
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))


def content(place):
    return json.loads((place / "config.json").read_text())


def auth(text):
    return base64.b64encode(text.encode()).decode()


def decoded(value):
    return json.loads(base64.urlsafe_b64decode(value))


def accept(engine, **more):
    engine.json("POST", "/auth", {"Status": "Login Succeeded", **more})


def test_a_login_takes_the_place_of_what_is_none(engine, mdocker, place):
    write(place, {"auths": {"nest:1": {"auth": "!!!"}}})
    accept(engine)
    assert mdocker("login", "-u", "bird", "-p", "twigs", "nest:1").code == 0
    assert content(place)["auths"] == {"nest:1": {"auth": auth("bird:twigs")}}


def test_an_empty_password_of_standard_input(engine, mdocker, place, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    done = mdocker("login", "-u", "bird", "--password-stdin", "nest:1")
    assert (done.code, done.err) == (1, "mdocker: standard input holds no password\n")


def test_a_login_is_tried_and_kept(engine, mdocker, place, monkeypatch):
    accept(engine)
    done = mdocker("login", "-u", "bird", "-p", "nest:1", "https://nest:5000/v2/")
    assert (done.code, done.out) == (0, "Login Succeeded\n")
    assert "--password-stdin" in done.err
    assert f"stored unencrypted in '{place}/config.json'" in done.err
    assert json.loads(engine.requests[-1][3]) == {
        "username": "bird",
        "password": "nest:1",
        "serveraddress": "nest:5000",
    }
    assert content(place) == {"auths": {"nest:5000": {"auth": auth("bird:nest:1")}}}
    assert stat.S_IMODE((place / "config.json").stat().st_mode) == 0o600
    assert os.listdir(place) == ["config.json"]
    assert decoded(credentials.registry_auth("nest:5000/bird:2"))["password"] == "nest:1"


def test_the_password_of_a_pipe(engine, spawn, place):
    accept(engine)
    login = spawn(
        *("login", "-u", "bird", "--password-stdin"),
        stdin=-1,
        env={"DOCKER_CONFIG": str(place)},
    )
    out, _ = login.communicate(b"p w\r\n")
    assert (login.returncode, out) == (0, b"Login Succeeded\n")
    assert content(place) == {"auths": {HUB: {"auth": auth("bird:p w")}}}


def test_a_token_for_later_takes_the_password_s_place(engine, mdocker, place):
    accept(engine, IdentityToken="for later")
    assert mdocker("login", "-u", "bird", "-p", "nest", "nest").code == 0
    assert content(place) == {
        "auths": {"nest": {"auth": auth("bird:"), "identitytoken": "for later"}}
    }
    assert decoded(credentials.registry_auth("nest.x/y")) == {}
    assert ConfigFile.read().login("nest").identity_token == "for later"


def test_what_is_refused_is_not_kept(engine, mdocker, place):
    engine.refuse("POST", "/auth", 401, "unauthorized: incorrect username or password")
    done = mdocker("login", "-u", "bird", "-p", "x", "nest")
    assert done.code == 1
    assert done.err.endswith("mdocker: unauthorized: incorrect username or password\n")
    assert not place.exists()


def test_what_is_kept_is_tried_first(engine, mdocker, place):
    write(place, {"auths": {"https://nest:1/v1/": {"auth": auth("bird:nest")}}})
    accept(engine)
    done = mdocker("login", "nest:1")
    assert done.code == 0
    assert done.out.startswith("Authenticating with existing credentials... [Username: bird]\n")
    assert json.loads(engine.requests[-1][3])["password"] == "nest"
    assert list(content(place)["auths"]) == ["nest:1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-u", "a", "-p", "b", "--password-stdin"), "conflicting options: cannot specify both"),
        (("--password-stdin",), "the --password-stdin option requires --username to be set"),
    ],
)
def test_options_that_can_not_be_together(mdocker, words, said):
    done = mdocker("login", *words)
    assert done.code == 1
    assert said in done.err


def test_nobody_to_ask(engine, spawn, place):
    login = spawn("login", stdin=-3, env={"DOCKER_CONFIG": str(place)})
    _, complained = login.communicate()
    assert login.returncode == 1
    assert b"Cannot perform an interactive login from a non TTY device" in complained


def test_a_person_is_asked(engine, place):
    accept(engine)
    words = (sys.executable, "-m", "mdocker", "--host", engine.host, "login", "nest")
    session = Session(words, env={**os.environ, "DOCKER_CONFIG": str(place)}, cwd=CHECKOUT)
    try:
        session.until("Username: ")
        session.send("bird\n")
        session.until("Password: ")
        session.send("secret\n")
        session.until("Login Succeeded")
        assert session.end() == 0
    finally:
        session.close()
    assert b"secret" not in session.everything
    assert content(place)["auths"] == {"nest": {"auth": auth("bird:secret")}}


def test_a_logout(mdocker, place):
    write(place, {"auths": {"nest": {}, "http://nest/v1/": {}, "other": {}}, "x": {"y": 1}})
    assert mdocker("logout", "nest") == (0, "Removing login credentials for nest\n", "")
    assert content(place) == {"auths": {"other": {}}, "x": {"y": 1}}
    assert mdocker("logout") == (0, f"Removing login credentials for {HUB}\n", "")


def test_a_helper_keeps_them(engine, mdocker, place, helper):
    write(place, {"credsStore": "nest"})
    accept(engine)
    done = mdocker("login", "-u", "bird", "-p", "nest", "nest:1")
    assert (done.code, "unencrypted" in done.err) == (0, False)
    assert content(place) == {"credsStore": "nest", "auths": {"nest:1": {}}}
    assert json.loads((helper / "nest_1").read_text())["Secret"] == "nest"
    (helper / "nest_1").write_text('{"Username": "bird", "Secret": "nest"}')
    assert decoded(credentials.registry_auth("nest:1/x")) == {
        "username": "bird",
        "password": "nest",
        "serveraddress": "nest:1",
    }
    assert decoded(credentials.registry_auth("busybox")) == {}
    (helper / "nest_2").write_text('{"Username": "<token>", "Secret": "t"}')
    assert decoded(credentials.registry_config()) == {
        "nest:1": {"username": "bird", "password": "nest", "serveraddress": "nest:1"},
        "nest:2": {"identitytoken": "t", "serveraddress": "nest:2"},
    }
    assert mdocker("logout", "nest:1").code == 0
    assert not (helper / "nest_1").exists()
    assert content(place)["auths"] == {}


def test_a_helper_for_one_registry(place, helper):
    write(
        place,
        {"auths": {"other": {"auth": auth("a:b")}}, "credHelpers": {"nest": "nest", "gone": "no"}},
    )
    (helper / "nest").write_text('{"Username": "bird", "Secret": "s"}')
    assert decoded(credentials.registry_auth("nest.x/y")) == {}
    assert decoded(credentials.registry_config()).keys() == {"nest", "other"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone", "install docker-credential-gone into"),
        ("../bin/sh", "is no name of a credential helper"),
    ],
)
def test_a_helper_that_can_not_be_asked(place, name, said):
    write(place, {"credsStore": name})
    with pytest.raises(HelperFailed, match=said):
        credentials.registry_auth("nest:1/x")


def test_a_helper_that_says_nonsense_or_fails(place, helper):
    write(place, {"credsStore": "nest"})
    (helper / "nest_1").write_text("nonsense")
    with pytest.raises(HelperFailed, match="answers with what is no JSON object"):
        credentials.registry_auth("nest:1/x")
    (helper.parent / "docker-credential-nest").write_text("#!/bin/sh\necho locked; exit 1\n")
    with pytest.raises(HelperFailed, match="docker-credential-nest says: locked"):
        credentials.registry_auth("nest:1/x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ('{"auths": 7}', "auths is no JSON object"),
        ('{"auths": {"nest:1": 7}}', "'mdocker logout nest:1' removes it"),
        ('{"auths": {"nest:1": {"auth": "!"}}}', "is no login"),
        ('{"auths": {"nest:1": {"auth": "YWJj"}}}', "is no login"),
        ('{"auths": {"nest:1": {"identitytoken": 7}}}', "is no login"),
    ],
)
def test_a_damaged_file(place, text, said):
    write(place, text)
    with pytest.raises(ConfigFileError) as refusal:
        credentials.registry_auth("nest:1/x")
    assert said in str(refusal.value)


def test_a_damaged_login_can_be_logged_out_of(mdocker, place):
    write(place, {"auths": {"nest:1": {"auth": "!"}}})
    assert mdocker("logout", "nest:1").code == 0
    assert content(place) == {"auths": {}}


def test_no_file_is_no_credentials(place):
    assert credentials.registry_auth("busybox") == "e30="
    assert credentials.registry_config() == "e30="
    write(place, "")
    assert credentials.registry_auth("busybox") == "e30="


def test_a_link_stays_one(place, tmp_path):
    write(place, {})
    real = tmp_path / "real.json"
    (place / "config.json").rename(real)
    (place / "config.json").symlink_to(real)
    credentials.keep(ConfigFile.read(), Login("nest", "a", "b"))
    assert (place / "config.json").is_symlink()
    assert "nest" in json.loads(real.read_text())["auths"]


def test_a_directory_that_can_not_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "file/x"))
    with pytest.raises(ConfigFileError, match="cannot read"):
        ConfigFile.read()
    with pytest.raises(ConfigFileError, match="cannot write"):
        ConfigFile(str(tmp_path / "file/x/config.json"), {}).write()


@pytest.mark.parametrize(
    ("name", "registry"),
    [
        ("busybox", HUB),
        ("bird/nest:1", HUB),
        ("docker.io/bird/nest", HUB),
        ("index.docker.io/nest", HUB),
        ("localhost/nest", "localhost"),
        ("localhost:5000/nest@sha256:x", "localhost:5000"),
        ("nest.example/bird", "nest.example"),
        ("nest:1", HUB),
        ("NEST/bird", "NEST"),
    ],
)
def test_the_registry_of_a_name(name, registry):
    assert registry_of(name) == registry


@pytest.mark.parametrize("text", ["", "docker.io", "https://index.docker.io/v1/", HUB])
def test_the_hub_has_many_names(text):
    assert server_key(text) == HUB


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_a_login_comes_out_as_it_went_in(server, username, password):
    file = ConfigFile("/nonexistent", {})
    login = Login(server_key(server), username.replace(":", ""), password.rstrip("\0"))
    file.put(login)
    assert file.login(login.server) == login
    assert file.drop(login.server)
    assert not file.login(login.server).known


def test_a_login_does_not_show_its_secrets():
    assert "secret" not in repr(Login("nest", "bird", "secret", "secret", "secret"))
