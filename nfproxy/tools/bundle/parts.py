"""The files of an archive for a report: what is collected, each bounded in time and size."""

from __future__ import annotations

import io
import os
import re
import resource
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from nfproxy.errors import NfproxyError, reason_of
from nfproxy.text import one_line

MOST_BYTES = 16 << 20  # of one file
COMMAND_S = 30.0

#: Statuses of commands that answered: "nothing to say" and "here is what is wrong".
_ANSWERS = (0, 1)


# --- secrets: nfproxy writes none into its log, but the program of a credential plugin may -------

_REMOVED = rb"<removed>"

#: Each with what may stay before the secret.
_SECRETS = (
    # A private key, with what is cut off behind it.
    re.compile(
        rb"()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        re.DOTALL,
    ),
    # A private key or a certificate in base64, as a kubeconfig has it.
    re.compile(
        rb"((?:client|certificate-authority)[a-zA-Z-]*-data[\"']?\s*[:=]\s*[\"']?)[\w+/=-]+"
    ),
    # JSON web tokens, as service accounts have them.
    re.compile(rb"()\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"),
    re.compile(rb"(\b(?:Bearer|Basic)\s+)[\w.~+/=-]{6,}", re.IGNORECASE),
    re.compile(
        rb"(\b(?:[\w-]*token|[\w-]*password|passwd|[\w-]*secret|client-key-data|api-?key)"
        rb"[\"']?\s*[:=]\s*[\"']?)[^\s\"',;}]{4,}",
        re.IGNORECASE,
    ),
    re.compile(rb"(\w+://[^\s:/@]+:)[^\s@/]+(?=@)"),
)


def without_secrets(text: bytes) -> bytes:
    """Return a text in which ``<removed>`` stands for each secret."""
    for pattern in _SECRETS:
        text = pattern.sub(rb"\g<1>" + _REMOVED, text)
    return text


# --- parts ----------------------------------------------------------------------------------------


class Collected(msgspec.Struct, frozen=True):
    """A file's bytes; `missing` says what could not be collected of it, "" for nothing."""

    data: bytes
    missing: str = ""


class BundlePart(msgspec.Struct, frozen=True):
    """A file of the archive: its name, what it is in a few words, and what gives it."""

    name: str
    what: str
    collect: Callable[[], Collected]


def by_command(argv: Sequence[str], *, environment: Mapping[str, str] = {}) -> Collected:
    """Return what a command prints. It ends with all that it started after COMMAND_S."""
    with (
        tempfile.TemporaryFile(dir=_scratch()) as out,
        tempfile.TemporaryFile(dir=_scratch()) as err,
    ):
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, "NO_COLOR": "1", **environment},
                start_new_session=True,
                preexec_fn=_bound_files,
            )
        except OSError as error:
            return Collected(b"", f"{argv[0]}: {reason_of(error)}")
        try:
            status = process.wait(COMMAND_S)
            missing = ""
        except subprocess.TimeoutExpired:
            status, missing = 0, f"stopped after {COMMAND_S:g} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        data, said = _head(out), _head(err)
    if status not in _ANSWERS:
        lines = said.decode(errors="replace").strip().splitlines()
        missing = one_line(lines[-1]) if lines else f"exit status {status}"
    if said and not data:
        data = said
    if len(data) > MOST_BYTES:
        data, missing = data[:MOST_BYTES], f"only its first {MOST_BYTES >> 20} MiB"
    return Collected(data, missing)


def by_file(path: Path | None, what: str) -> Collected:
    """Return the end of a file; None for one that was not found, which `what` describes."""
    if path is None:
        return Collected(b"", what)
    try:
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(max(0, size - MOST_BYTES))
            data = file.read(MOST_BYTES)
    except OSError as error:
        return Collected(b"", f"{path}: {reason_of(error)}")
    return Collected(data, f"only its last {MOST_BYTES >> 20} MiB" if size > MOST_BYTES else "")


def by_call(function: Callable[[], bytes]) -> Collected:
    """Return what a function returns; its NfproxyError says what is missing."""
    try:
        data = function()
    except NfproxyError as error:
        return Collected(b"", str(error))
    return Collected(data[:MOST_BYTES], "too long" if len(data) > MOST_BYTES else "")


def archive(
    parts: Iterable[BundlePart],
    directory: str,
    about: str,
    unix_s: float,
    show: Callable[[str], None],
) -> tuple[bytes, list[str]]:
    """
    Return a gzipped tar file, and lines on what is missing in it.

    Its files are below `directory`. README.txt has `about`, the list of files, and those lines.
    """
    missing: list[str] = []
    rows: list[str] = []
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:

        def add(name: str, data: bytes) -> None:
            entry = tarfile.TarInfo(f"{directory}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(unix_s), 0o600
            tar.addfile(entry, io.BytesIO(data))

        for part in parts:
            show(part.what)
            found = part.collect()
            if found.missing:
                missing.append(f"{part.name}: {found.missing}")
            if found.data:
                add(part.name, without_secrets(found.data))
                rows.append(f"  {part.name:20} {part.what}")
        lacks = (
            ["", "Could not be collected:", *(f"  {line}" for line in missing)] if missing else []
        )
        text = "\n".join((about, "", *rows, *lacks)) + "\n"
        add("README.txt", without_secrets(text.encode(errors="replace")))
    return buffer.getvalue(), missing


def _bound_files() -> None:
    """Let a process write no longer file: what it prints may be kept in memory."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES + 1, MOST_BYTES + 1))


def _head(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(MOST_BYTES + 1)


def _scratch() -> str | None:
    """Return a directory for output on its way: in a pod nothing but /dev/shm can be written."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - nameless files
