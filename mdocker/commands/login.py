"""`login` and `logout`."""

from __future__ import annotations

import sys
from typing import Annotated

from mdocker import credentials
from mdocker.client import Engine
from mdocker.config_file import ConfigFile, Login
from mdocker.errors import FAILED, CliError, EngineRefused, UsageError
from mdocker.options import flag, injected
from mdocker.output import say, warn
from mdocker.registry_names import HUB, server_key

_UNAUTHORIZED = 401


class NoLogin(CliError):
    """Nobody can be asked for a name and a password, or says none."""


def login(
    server: str = "",
    /,
    *,
    username: Annotated[str, flag("--username", "-u", help="Whom the registry knows")] = "",
    password: Annotated[
        str, flag("--password", "-p", help="Password or token; others can see it in 'ps'")
    ] = "",
    password_stdin: Annotated[
        bool, flag("--password-stdin", help="Read the password or token from standard input")
    ] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Log in to a registry, Docker Hub if none is named: HOST or HOST:PORT.

    The engine asks the registry whether it agrees. Then the login is kept where the docker CLI
    keeps it and looks for it: with a credential helper if ~/.docker/config.json (or that of the
    directory DOCKER_CONFIG) names one in credsStore or credHelpers, else in that file.

    What is kept already is tried where no name is given.
    """
    if password and password_stdin:
        raise UsageError(
            "conflicting options: cannot specify both --password and --password-stdin", FAILED
        )
    if password_stdin and not username:
        raise UsageError("the --password-stdin option requires --username to be set", FAILED)
    config, key = ConfigFile.read(), server_key(server)
    if password:
        warn("Using --password via the CLI is insecure. Use --password-stdin.")
    if password_stdin:
        password = sys.stdin.read().rstrip("\r\n")
        if not password:
            raise NoLogin("standard input holds no password")
    if username and password:  # takes the place of what is kept, whatever that is
        return _enter(engine, config, Login(key, username, password))
    kept = credentials.find(config, key)
    if not username and not password and kept.known:
        say(f"Authenticating with existing credentials... [Username: {kept.username or '-'}]")
        try:
            return _enter(engine, config, kept)
        except EngineRefused as error:
            if error.status != _UNAUTHORIZED:
                raise
            warn(f"These credentials are not accepted any more: {error}")
    if not username:
        username = _asked("Username", kept.username)
    if not password:
        password = _asked("Password", hidden=True)
    return _enter(engine, config, Login(key, username, password))


def _enter(engine: Engine, config: ConfigFile, login: Login) -> int:
    """Have the engine try it, and keep it."""
    reply = engine.json("POST", "/auth", None, login.request())
    token = reply.get("IdentityToken") or ""
    if token:
        login = login._replace(password="", identity_token=token)
    plain = credentials.keep(config, login)
    if plain:
        warn(
            f"Your credentials are stored unencrypted in '{plain}'. A credential helper "
            "keeps them safer: https://docs.docker.com/go/credential-store/"
        )
    say(reply.get("Status") or "Login Succeeded")
    return 0


def _asked(what: str, usual: str = "", *, hidden: bool = False) -> str:
    """Ask the person at the terminal.

    Raises:
        NoLogin: There is none, or nothing is answered.
    """
    if not sys.stdin.isatty():
        raise NoLogin(
            "Cannot perform an interactive login from a non TTY device: give --username and "
            "--password-stdin"
        )
    question = f"{what} ({usual}): " if usual else f"{what}: "
    if hidden:
        import getpass

        answer = getpass.getpass(question, sys.stderr)
    else:
        sys.stderr.write(question)
        sys.stderr.flush()
        answer = sys.stdin.readline().strip() or usual
    if not answer:
        raise NoLogin(f"{what} required")
    return answer


def logout(server: str = "", /, *, engine: Annotated[Engine, injected()]) -> int:
    """Forget the login to a registry, Docker Hub if none is named.

    It is taken out of the docker CLI's config.json, and from the credential helper if there is
    one. The registry is not asked.
    """
    key = server_key(server)
    say(f"Removing login credentials for {HUB if key == HUB else key}")
    credentials.forget(ConfigFile.read(), key)
    return 0
