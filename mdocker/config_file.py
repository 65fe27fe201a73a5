"""~/.docker/config.json, which the docker CLI has, too: what we don't know in it stays as it is."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
from typing import Any, NamedTuple

from mdocker.errors import CliError
from mdocker.registry_names import host_of, server_key


class ConfigFileError(CliError):
    """The file can't be read, or not be written; the text says why and what to do."""


class Login(NamedTuple):
    """Credentials for one registry. Its repr shows no secret.

    Attributes:
        server: What it is kept under.
        identity_token: In place of a password.
        registry_token: To be sent as it is.
    """

    server: str
    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Login(server={self.server!r}, username={self.username!r})"

    @property
    def known(self) -> bool:
        """Whether there is anything to show to a registry."""
        return bool(self.username or self.identity_token or self.registry_token)

    def request(self) -> dict[str, str]:
        """Spell it as the engine's API does (AuthConfig)."""
        fields = {
            "username": self.username,
            "password": self.password,
            "identitytoken": self.identity_token,
            "registrytoken": self.registry_token,
            "serveraddress": self.server,
        }
        return {name: value for name, value in fields.items() if value} if self.known else {}


class ConfigFile:
    """The file, as it was when it was read.

    Attributes:
        path: Where it is; it need not be there.
    """

    def __init__(self, path: str, content: dict[str, Any]) -> None:
        self.path = path
        self._content = content

    @classmethod
    def read(cls) -> ConfigFile:
        """Read $DOCKER_CONFIG/config.json, or ~/.docker/config.json; none is an empty one.

        Raises:
            ConfigFileError: It can't be read, or is none.
        """
        directory = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
        path = os.path.join(directory, "config.json")
        try:
            with open(path, "rb") as file:
                text = file.read()
        except FileNotFoundError:
            return cls(path, {})
        except OSError as error:
            raise ConfigFileError(f"cannot read {path}: {error.strerror}") from error
        try:
            content = json.loads(text or b"{}")
        except (ValueError, RecursionError) as error:
            raise ConfigFileError(f"{path} is no JSON: {error}; mend it or remove it") from error
        if not isinstance(content, dict):
            raise ConfigFileError(f"{path} is no JSON object; mend it or remove it")
        found = cls(path, content)
        for part in ("auths", "credHelpers"):
            found._part(part)
        return found

    @property
    def helpers(self) -> dict[str, str]:
        """Registries that have a credential helper of their own, and its name."""
        return {
            server: name
            for server, name in self._part("credHelpers").items()
            if isinstance(name, str) and name
        }

    @property
    def store(self) -> str:
        """The credential helper of all others, "" where they are kept in the file."""
        store = self._content.get("credsStore")
        return store if isinstance(store, str) else ""

    @property
    def servers(self) -> list[str]:
        """What logins are kept under in this file."""
        return list(self._part("auths"))

    def helper_of(self, server: str) -> str:
        """Return the name of the credential helper for a registry, "" for the file itself."""
        for key, name in self.helpers.items():
            if server_key(key) == server:
                return name
        return self.store

    def login(self, server: str) -> Login:
        """Return what the file itself has for a registry.

        Raises:
            ConfigFileError: It has something that is no login.
        """
        for key in self._keys(server):
            return self._read(key, server)
        return Login(server)

    def put(self, login: Login, *, elsewhere: bool = False) -> None:
        """Have a login in the file; `elsewhere` notes that a helper has its secret."""
        for key in self._keys(login.server):
            del self._part("auths")[key]
        entry: dict[str, str] = {}
        if not elsewhere:
            pair = f"{login.username}:{login.password}".encode()
            entry["auth"] = base64.b64encode(pair).decode()
            if login.identity_token:
                entry["identitytoken"] = login.identity_token
        self._content.setdefault("auths", {})[login.server] = entry

    def drop(self, server: str) -> bool:
        """Have no login for a registry; returns whether there was one."""
        found = self._keys(server)
        for key in found:
            del self._part("auths")[key]
        return bool(found)

    def write(self) -> None:
        """Write it: all of it or nothing, for nobody but its owner to read.

        Raises:
            ConfigFileError: The disk refuses.
        """
        import tempfile

        target = os.path.realpath(self.path)  # a link to it stays one
        directory = os.path.dirname(target)
        text = json.dumps(self._content, indent="\t", ensure_ascii=False)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            # mkstemp makes files of mode 0600.
            descriptor, fresh = tempfile.mkstemp(prefix="config.json.", dir=directory)
            try:
                with open(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                self._keep_owner(fresh, target)
                os.replace(fresh, target)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(fresh)
                raise
        except OSError as error:
            raise ConfigFileError(f"cannot write {self.path}: {error.strerror}") from error

    @staticmethod
    def _keep_owner(fresh: str, target: str) -> None:
        """Leave the file to whom it belongs, where root writes it for somebody else."""
        with contextlib.suppress(FileNotFoundError, PermissionError):
            before = os.stat(target)
            os.chown(fresh, before.st_uid, before.st_gid)

    def _keys(self, server: str) -> list[str]:
        """What a registry's login may be kept under: older clients kept whole addresses."""
        exact = [server] if server in self._part("auths") else []
        return exact + [
            key for key in self._part("auths") if key != server and server_key(key) == server
        ]

    def _part(self, name: str) -> dict[str, Any]:
        part = self._content.get(name)
        if part is None:
            return {}
        if not isinstance(part, dict):
            raise ConfigFileError(f"{self.path}: {name} is no JSON object; mend or remove it")
        return part

    def _read(self, key: str, server: str) -> Login:
        entry = self._part("auths")[key]
        if not isinstance(entry, dict):
            raise self._malformed(key)
        username, password = self._text(key, entry, "username"), self._text(key, entry, "password")
        if auth := self._text(key, entry, "auth"):
            try:
                username, colon, password = (
                    base64.b64decode(auth, validate=True).decode().partition(":")
                )
            except (binascii.Error, ValueError):
                raise self._malformed(key) from None
            if not colon:
                raise self._malformed(key)
        return Login(
            server,
            username,
            password.rstrip("\0"),
            self._text(key, entry, "identitytoken"),
            self._text(key, entry, "registrytoken"),
        )

    def _text(self, key: str, entry: dict[str, Any], name: str) -> str:
        value = entry.get(name) or ""
        if not isinstance(value, str):
            raise self._malformed(key)
        return value

    def _malformed(self, key: str) -> ConfigFileError:
        return ConfigFileError(
            f"{self.path}: what it has for {host_of(key)} is no login; 'mdocker logout {key}' "
            "removes it"
        )
