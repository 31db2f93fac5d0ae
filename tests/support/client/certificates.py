"""Certificates for tests, made by openssl."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

_NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:api.example.org"


class Authority:
    """A certificate authority in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.file = directory / "ca.crt"
        self._key = directory / "ca.key"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-keyout", self._key, "-out", self.file, "-subj", "/CN=a CA"),
            *("-days", "2"),
        )

    def below(self, directory: Path) -> Authority:
        """Return an authority that this one has signed."""
        other = Authority(directory)
        request, extensions = directory / "ca.csr", directory / "ca.ext"
        extensions.write_text("basicConstraints=critical,CA:true\n")
        subject = ("-subj", "/CN=an intermediate CA")
        _openssl("req", "-new", "-key", other._key, "-out", request, *subject)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key),
            *("-CAcreateserial", "-out", other.file, "-extfile", extensions, "-days", "2"),
        )
        return other

    def issue(self, name: str, days: int = 2) -> tuple[Path, Path]:
        """Return certificate and key for a name; a negative number of days has passed."""
        certificate, key = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        request = self._directory / f"{name}.csr"
        extensions = self._directory / "names"
        extensions.write_text(_NAMES)
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", key, "-out", request, "-subj", f"/CN={name}"),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key),
            *("-CAcreateserial", "-out", certificate, "-extfile", extensions),
            *("-days", str(days)),
        )
        return certificate, key

    def server(self, days: int = 2, clients: bool = False) -> ssl.SSLContext:
        """Return the context of a server, which asks for certificates of `clients`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue("server", days))
        if clients:
            context.load_verify_locations(self.file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=30)
