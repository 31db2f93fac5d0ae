"""The archive for a report: bounded, and without secrets."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import pytest

from nfproxy.errors import InputError
from nfproxy.tools.bundle import parts
from nfproxy.tools.bundle.parts import (
    BundlePart,
    Collected,
    archive,
    by_call,
    by_command,
    by_file,
    without_secrets,
)

WEB_TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJuZnByb3h5In0.c2lnbmF0dXJl"  # noqa: S105 - of no key


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"Authorization: Bearer {WEB_TOKEN}", WEB_TOKEN),
        ("authorization: bearer abcdef0123456789", "abcdef0123456789"),
        (f"plug-in wrote {WEB_TOKEN} and ended", WEB_TOKEN),
        ('{"token": "s3cr3t-value"}', "s3cr3t-value"),
        ("token: s3cr3t-value", "s3cr3t-value"),
        ("--bootstrap-token=abcdef.0123", "abcdef.0123"),
        ("password=hunter22", "hunter22"),
        ("client-key-data: LS0tLS1CRUdJTg==", "LS0tLS1CRUdJTg=="),
        ("client-certificate-data: LS0tLS1CRUdJTg==", "LS0tLS1CRUdJTg=="),
        ("https://user:hunter22@api.example.com:6443", "hunter22"),
        ("-----BEGIN EC PRIVATE KEY-----\nMHc\nCAQ\n-----END EC PRIVATE KEY-----", "MHc"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMHc\nthen cut", "MHc"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, secret: str) -> None:
    """In the forms that logs and configurations have."""
    found = without_secrets(text.encode()).decode()
    assert secret not in found
    assert "<removed>" in found


@pytest.mark.parametrize(
    "text",
    [
        "shop/token-service:http 10.96.0.1:80/tcp",
        "Service shop/secret-santa: 2 endpoints",
        "kubeconfig: /var/lib/kube-proxy/kubeconfig.conf",
        "https://192.168.77.1:6443 refuses connections",
        'nfproxy_lists_total{resource="services"} 1.0',
        "[fd00::1]:6443: reachable again",
    ],
)
def test_the_rest_stays(text: str) -> None:
    """Names and addresses are what a report is about."""
    assert without_secrets(text.encode()).decode() == text


def python(script: str) -> Collected:
    """Run a script of Python."""
    return by_command([sys.executable, "-c", script])


def test_a_command_s_output_is_taken() -> None:
    """Status 1 is an answer; another, and a program that is not there, are not."""
    assert python("print('it')") == Collected(b"it\n")
    assert python("print('it'); raise SystemExit(1)") == Collected(b"it\n")
    failed = python("import sys; print('why not', file=sys.stderr); raise SystemExit(2)")
    assert failed == Collected(b"why not\n", "why not")
    assert by_command(["/nowhere/nft"]).missing.startswith("/nowhere/nft: ")


def test_a_command_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In time, with all that it started, and in size."""
    monkeypatch.setattr(parts, "COMMAND_S", 1.0)
    slow = python("import os, time; print('begun', flush=True); os.fork(); time.sleep(60)")
    assert slow == Collected(b"begun\n", "stopped after 1 s")

    monkeypatch.setattr(parts, "COMMAND_S", 30.0)
    monkeypatch.setattr(parts, "MOST_BYTES", 1 << 20)
    long = python("while True: print('x' * 1000)")
    assert (len(long.data), long.missing) == (1 << 20, "only its first 1 MiB")


def test_the_end_of_a_file_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest lines of a log are those that count."""
    path = tmp_path / "0.log"
    path.write_bytes(b"a" * 10 + b"b" * (1 << 20))
    monkeypatch.setattr(parts, "MOST_BYTES", 1 << 20)
    assert by_file(path, "") == Collected(b"b" * (1 << 20), "only its last 1 MiB")
    assert by_file(None, "elsewhere") == Collected(b"", "elsewhere")
    assert by_file(tmp_path / "none", "").missing.endswith("none: No such file or directory")


def test_the_archive_says_what_it_lacks() -> None:
    """In README.txt, and to the caller."""

    def fail() -> bytes:
        raise InputError("no nfproxy runs here", "start it")

    parts = [
        BundlePart("a.txt", "all of it", lambda: Collected(b"token: s3cr3t-value\n")),
        BundlePart("b.txt", "none of it", lambda: by_call(fail)),
    ]
    data, missing = archive(parts, "report", "About.", 1_790_000_000.0, lambda _: None)

    assert missing == ["b.txt: no nfproxy runs here; start it"]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = {name: tar.extractfile(name) for name in tar.getnames()}
        texts = {name: file.read().decode() for name, file in files.items() if file}
        assert {tar.getmember(name).mode for name in files} == {0o600}
    assert texts["report/a.txt"] == "token: <removed>\n"
    assert set(texts) == {"report/a.txt", "report/README.txt"}
    readme = texts["report/README.txt"]
    assert readme.startswith("About.\n")
    assert "b.txt: no nfproxy runs here" in readme.partition("Could not be collected:")[2]
