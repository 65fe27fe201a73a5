"""The client's credentials for registries, as the docker CLI keeps them: ~/.docker/config.json."""

from __future__ import annotations


def registry_auth(reference: str) -> str:
    """Return the value of the header X-Registry-Auth for an image's name.

    Args:
        reference: As a person writes it: busybox, localhost:5000/bird:1.

    Returns:
        base64url of a JSON object; `e30=` (an empty one) where there are no credentials.

    Raises:
        CliError: The file of credentials can't be read, or a credential helper failed.
    """
    raise NotImplementedError


def registry_config() -> str:
    """Return the value of the header X-Registry-Config: the credentials of all registries.

    Raises:
        CliError: As `registry_auth`.
    """
    raise NotImplementedError
