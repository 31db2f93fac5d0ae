"""Certificates made on the spot, by openssl."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Pair(NamedTuple):
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._pair = Pair(directory / f"{name}.crt", directory / f"{name}.key")
        self._made = 0
        self.file = self._pair.certificate
        _openssl(
            ("req", "-x509", *_KEY, "-days", "30", "-subj", f"/CN=stand-in {name}"),
            ("-keyout", self._pair.key, "-out", self.file),
        )

    def server(self, names: Iterable[str], *, expired: bool = False) -> Pair:
        """Return a certificate for names and addresses."""
        listed = [f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in names]
        extensions = f"subjectAltName={','.join(listed)}\nextendedKeyUsage=serverAuth\n"
        return self._issue("/CN=kube-apiserver", extensions, expired)

    def client(self, user: str, *, expired: bool = False) -> Pair:
        """Return a certificate with which a client is that user."""
        return self._issue(f"/CN={user}", "extendedKeyUsage=clientAuth\n", expired)

    def _issue(self, subject: str, extensions: str, expired: bool) -> Pair:
        self._made += 1
        base = self._directory / f"{self.file.stem}-{self._made}"
        pair = Pair(base.with_suffix(".crt"), base.with_suffix(".key"))
        request, wanted = base.with_suffix(".csr"), base.with_suffix(".ext")
        wanted.write_text(extensions)
        _openssl(("req", *_KEY, "-subj", subject, "-keyout", pair.key, "-out", request))
        _openssl(
            ("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._pair.key),
            ("-set_serial", self._made, "-extfile", wanted, "-out", pair.certificate),
            ("-days", 0 if expired else 30),  # it ends where it begins: now
        )
        return pair


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdigit()


def _openssl(*arguments: Sequence[object]) -> None:
    words = [str(word) for part in arguments for word in part]
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {' '.join(words)}: {done.stderr}")
