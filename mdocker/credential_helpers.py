"""Programs that keep credentials: docker-credential-NAME, one of the docker CLI's plug-ins.

They are asked by a word (get, store, erase, list) and by what they read, and answer in JSON.
Protocol: https://github.com/docker/docker-credential-helpers
"""

from __future__ import annotations

import json
import re
import subprocess

from mdocker.config_file import Login
from mdocker.errors import CliError

_TOKEN = "<token>"
"""The name of a user whose secret is an identity token."""

_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_NOT_FOUND = "credentials not found"


class HelperFailed(CliError):
    """A credential helper is not there, or fails; its own words are in the text."""


def get(name: str, server: str) -> Login:
    """Return what a helper has for a registry; an empty login if it has none.

    Raises:
        HelperFailed: It can't be asked.
    """
    code, out = _run(name, "get", server)
    if code:
        if _NOT_FOUND in out:
            return Login(server)
        raise HelperFailed(f"error getting credentials: docker-credential-{name} says: {out}")
    found = _object(name, out)
    username, secret = str(found.get("Username", "")), str(found.get("Secret", ""))
    if username == _TOKEN:
        return Login(server, identity_token=secret)
    return Login(server, username, secret)


def store(name: str, login: Login) -> None:
    """Have a helper keep a login.

    Raises:
        HelperFailed: It does not.
    """
    token = login.identity_token
    told = {
        "ServerURL": login.server,
        "Username": _TOKEN if token else login.username,
        "Secret": token or login.password,
    }
    code, out = _run(name, "store", json.dumps(told))
    if code:
        raise HelperFailed(f"error saving credentials: docker-credential-{name} says: {out}")


def erase(name: str, server: str) -> None:
    """Have a helper forget a login.

    Raises:
        HelperFailed: It does not.
    """
    code, out = _run(name, "erase", server)
    if code and _NOT_FOUND not in out:
        raise HelperFailed(f"error erasing credentials: docker-credential-{name} says: {out}")


def servers(name: str) -> list[str]:
    """Return the registries for which a helper has logins.

    Raises:
        HelperFailed: It does not say.
    """
    code, out = _run(name, "list", "")
    if code:
        raise HelperFailed(f"error listing credentials: docker-credential-{name} says: {out}")
    return list(_object(name, out))


def _object(name: str, text: str) -> dict[str, object]:
    try:
        found = json.loads(text or "{}")
        if not isinstance(found, dict):
            raise ValueError
    except ValueError:
        raise HelperFailed(
            f"docker-credential-{name} answers with what is no JSON object"
        ) from None
    return found


def _run(name: str, word: str, told: str) -> tuple[int, str]:
    """Ask a helper; returns how it ended and what it said."""
    program = f"docker-credential-{name}"
    if not _NAME.fullmatch(name):
        raise HelperFailed(f"{program!r} is no name of a credential helper: see config.json")
    try:
        # Its stderr is ours: it may have to ask for a pass phrase.
        done = subprocess.run([program, word], input=told.encode(), stdout=subprocess.PIPE)
    except FileNotFoundError:
        raise HelperFailed(
            f"config.json names a credential helper that is not there: install {program} into "
            "$PATH, or take it out of credsStore or credHelpers"
        ) from None
    except OSError as error:
        raise HelperFailed(f"cannot run {program}: {error.strerror}") from error
    return done.returncode, done.stdout.decode(errors="replace").strip()
