"""The client's credentials for registries, as the docker CLI keeps them.

They are in ~/.docker/config.json, or with the helper programs that it names.
"""

from __future__ import annotations

import base64
import json

from mdocker.config_file import ConfigFile, Login
from mdocker.errors import CliError
from mdocker.output import complain
from mdocker.registry_names import registry_of, server_key


def registry_auth(reference: str) -> str:
    """Return the value of the header X-Registry-Auth for an image's name.

    Args:
        reference: As a person writes it: busybox, localhost:5000/bird:1.

    Returns:
        base64url of a JSON object; `e30=` (an empty one) where there are no credentials.

    Raises:
        CliError: The file of credentials can't be read, or a credential helper failed.
    """
    return _header(find(ConfigFile.read(), registry_of(reference)).request())


def registry_config() -> str:
    """Return the value of the header X-Registry-Config: the credentials of all registries.

    A helper that fails is complained about, and left out: most builds need none of them.

    Raises:
        CliError: The file of credentials can't be read.
    """
    config = ConfigFile.read()
    found = dict.fromkeys(map(server_key, (*config.servers, *config.helpers)))
    if config.store:
        from mdocker import credential_helpers

        try:
            found |= dict.fromkeys(map(server_key, credential_helpers.servers(config.store)))
        except CliError as error:
            complain(str(error))
    logins = {}
    for server in found:
        try:
            login = find(config, server)
        except CliError as error:
            complain(str(error))
            continue
        if login.known:
            logins[server] = login.request()
    return _header(logins)


def find(config: ConfigFile, server: str) -> Login:
    """Return what is kept for a registry; an empty login if there is nothing.

    Args:
        server: As `registry_names.server_key` has it.

    Raises:
        CliError: What is kept can't be read.
    """
    helper = config.helper_of(server)
    if not helper:
        return config.login(server)
    from mdocker import credential_helpers

    return credential_helpers.get(helper, server)


def keep(config: ConfigFile, login: Login) -> str:
    """Keep a login; returns the file that now holds its secret in plain text, "" if none does.

    Raises:
        CliError: It can't be kept.
    """
    helper = config.helper_of(login.server)
    if helper:
        from mdocker import credential_helpers

        credential_helpers.store(helper, login)
    config.put(login, elsewhere=bool(helper))
    config.write()
    return "" if helper else config.path


def forget(config: ConfigFile, server: str) -> None:
    """Keep a login no more.

    Raises:
        CliError: It can't be removed everywhere; what could be, is.
    """
    was_there = config.drop(server)
    if was_there:
        config.write()
    helper = config.helper_of(server)
    if helper:
        from mdocker import credential_helpers

        credential_helpers.erase(helper, server)


def _header(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
