"""TLS towards registries: whom we believe, and who we are, by /etc/docker/certs.d as dockerd.

    /etc/docker/certs.d/HOST[:PORT]/*.crt     authorities that are believed for this registry, too
                                   /*.cert    our certificates for it, each with its NAME.key

https://docs.docker.com/engine/security/certificates/
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from supervisor.registries.errors import RegistryError

CERTIFICATES = Path("/etc/docker/certs.d")


class BadCertificates(RegistryError):
    """What lies in certs.d can't be used; the text says which file."""


class Stamp(NamedTuple):
    """What a registry's directory held: another stamp means other certificates."""

    files: tuple[tuple[str, int, int], ...] = ()


def stamp(directory: Path) -> Stamp:
    """Return the stamp of a registry's directory; reads the disk. Missing is as empty."""
    found = []
    try:
        for path in sorted(directory.iterdir()):
            status = path.stat()
            found.append((path.name, status.st_mtime_ns, status.st_size))
    except (FileNotFoundError, NotADirectoryError):
        return Stamp()
    except OSError as error:
        raise BadCertificates(
            f"cannot read the certificates in {directory}: {error.strerror}"
        ) from error
    return Stamp(tuple(found))


def context(directory: Path, *, verify: bool) -> ssl.SSLContext:
    """Make what TLS connections to one registry are made with; reads the disk, takes some 20 ms.

    Args:
        directory: The registry's own; may be missing.
        verify: Whether its certificate has to be good.

    Raises:
        BadCertificates: A file in the directory can't be used.
    """
    made = _believing() if verify else _credulous()
    made.set_alpn_protocols(["http/1.1"])
    try:
        for authority in sorted(directory.glob("*.crt")):
            _load(authority, made.load_verify_locations)
        for certificate in sorted(directory.glob("*.cert")):
            key = certificate.with_suffix(".key")
            if not key.exists():
                raise BadCertificates(
                    f"missing key {key.name} for client certificate {certificate.name} in "
                    f"{directory}. CA certificates must use the extension .crt"
                )
            _load(certificate, functools.partial(made.load_cert_chain, keyfile=key))
        for key in sorted(directory.glob("*.key")):
            if not key.with_suffix(".cert").exists():
                raise BadCertificates(
                    f"missing client certificate {key.stem}.cert for key {key.name} in {directory}"
                )
    except OSError as error:
        raise BadCertificates(
            f"cannot read the certificates in {directory}: {error.strerror}"
        ) from error
    return made


def _believing() -> ssl.SSLContext:
    made = ssl.create_default_context()
    # From Python 3.13 on, authorities that people make for themselves by a line of openssl are
    # refused for what their certificates leave out; dockerd takes them.
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not made.cert_store_stats()["x509_ca"] and not _has_store():
        import certifi

        made.load_verify_locations(certifi.where())
    return made


def _credulous() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def _load(path: Path, load: Callable[[Path], None]) -> None:
    try:
        load(path)
    except ssl.SSLError as error:
        raise BadCertificates(f"{path} is no certificate in PEM, or has a password") from error


def _has_store() -> bool:
    """Whether OpenSSL looks for authorities in a directory that is there."""
    paths = ssl.get_default_verify_paths()
    return paths.capath is not None and any(Path(paths.capath).glob("*.0"))
