"""Certificates of a test's own, made by openssl(1): an authority, an engine's, clients'."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """One that signs, in a directory of its own.

    Attributes:
        certificate: Path of its own certificate.
    """

    def __init__(self, directory: Path, name: str = "authority") -> None:
        if not shutil.which("openssl"):
            pytest.skip("needs openssl (apt-get install openssl)")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.certificate = directory / "ca.pem"
        self._key = directory / "ca-key.pem"
        _openssl(
            *("req", "-x509", *_CURVE, "-subj", f"/CN={name}", "-days", "2"),
            *("-keyout", self._key, "-out", self.certificate),
        )

    def engine(self, directory: str = "engine", names: str = "IP:127.0.0.1,DNS:localhost") -> Path:
        """A directory with ca.pem, cert.pem and key.pem for an engine of these names."""
        more = f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n"
        return self._signed(directory, "engine", more)

    def client(self, name: str, usage: str = "clientAuth") -> Path:
        """The same for a client, as DOCKER_CERT_PATH has it."""
        return self._signed(name, name, f"extendedKeyUsage={usage}\n")

    def _signed(self, directory: str, name: str, more: str) -> Path:
        place = self.directory / directory
        place.mkdir()
        shutil.copy(self.certificate, place / "ca.pem")
        (place / "more").write_text(more)
        _openssl(
            *("req", *_CURVE, "-subj", f"/O=test/CN={name}"),
            *("-keyout", place / "key.pem", "-out", place / "request"),
        )
        _openssl(
            *("x509", "-req", "-in", place / "request", "-days", "2", "-CAcreateserial"),
            *("-CA", self.certificate, "-CAkey", self._key),
            *("-extfile", place / "more", "-out", place / "cert.pem"),
        )
        return place


def tls_options(directory: Path, port: int = 0) -> tuple[str, ...]:
    """Options of `mdocker daemon` that listen on loopback with the files of `Authority.engine`."""
    return (
        *("--host", f"tcp://127.0.0.1:{port}", "--tlsverify"),
        *("--tlscacert", str(directory / "ca.pem")),
        *("--tlscert", str(directory / "cert.pem"), "--tlskey", str(directory / "key.pem")),
    )


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
