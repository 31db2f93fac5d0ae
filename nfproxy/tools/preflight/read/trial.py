"""
nfproxy's program, tried in a network namespace of its own.

In a process of its own, too (this module is what it runs): entering a user namespace takes one
without other threads, and nothing that goes wrong in there can reach this one or the node.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

import nfproxy
from nfproxy.dataplane.diagnose import may_administer_network, missing_features
from nfproxy.dataplane.kernel import Kernel
from nfproxy.dataplane.libnftables import library_version, load_text
from nfproxy.errors import MissingFeatureError, NfproxyError
from nfproxy.model.addresses import Family
from nfproxy.reconcile.observed import observe
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.reconcile.script import script
from nfproxy.tools.lab.privileges import CLONE_NEWNET, enter_private_namespace, unshare
from nfproxy.tools.preflight.facts import Place, Trial
from nfproxy.tools.preflight.read.sample import sample
from nfproxy.views.compare import compare

LIMIT_S = 12.0
_STEP_S = 6.0  # for one call of libnftables, or of nft
_ENDING_S = 2.0  # for a trial that gives up
_TOO_LONG = 3  # its exit status


class _Order(msgspec.Struct):
    """
    What to try: the families, how the host's nft is called ([] for not at all), whether by
    validation alone, and within how many seconds.
    """

    families: list[int]
    nft: list[str]
    validate: bool = False
    limit_s: float = LIMIT_S


def read_trial(families: Sequence[Family], nft: Sequence[str]) -> Trial:
    """
    Try the daemon's program for the Services of `sample`; `nft` is the host's command.

    Raises MissingFeatureError where no process can be started, or it comes to nothing.
    """
    order = _Order([int(family) for family in families], list(nft), limit_s=LIMIT_S)
    trial = _carry_out(order)
    if trial.place or not may_administer_network():
        return trial
    # Not in the same process: half on its way into a user namespace it has lost its rights.
    order.validate = True
    return msgspec.structs.replace(_carry_out(order), obstacle=trial.obstacle)


def _carry_out(order: _Order) -> Trial:
    # The very package that runs here, wherever it is; not what lies in the working directory.
    package_root = str(Path(nfproxy.__file__).parents[1])
    paths = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            env={**os.environ, "PYTHONPATH": paths},
            input=msgspec.json.encode(order),
            capture_output=True,
            timeout=LIMIT_S + _ENDING_S,
            check=False,
        )
        if done.returncode == _TOO_LONG:
            raise MissingFeatureError(f"the trial took longer than {LIMIT_S:g} s")
        return msgspec.json.decode(done.stdout, type=Trial)
    except subprocess.TimeoutExpired as error:
        raise MissingFeatureError(f"the trial took longer than {LIMIT_S:g} s") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise MissingFeatureError(f"the trial came to nothing: {error}") from error


def perform(families: Sequence[Family], nft: Sequence[str]) -> Trial:
    """Try everything, in this process, which is moved to a network namespace of its own."""
    if obstacle := _leave():
        return Trial("", obstacle)
    try:
        _load(families)
    except NfproxyError as error:
        return _refused("namespace", error, families)
    return Trial("namespace", library=_library(), host_nft=_listed_by(nft) if nft else None)


def validate(families: Sequence[Family]) -> Trial:
    """Have the kernel validate the program where this process is, which changes nothing."""
    planner = sample()
    try:
        load_text(script(planner.desired, planner.config.program, families), check=True)
    except NfproxyError as error:
        return _refused("validation", error, families)
    return Trial("validation", library=_library())


def _refused(place: Place, error: NfproxyError, families: Sequence[Family]) -> Trial:
    missing = tuple(str(found) for found in missing_features(families))
    return Trial(place, refused=str(error), missing=missing, library=_library())


def _leave() -> str:
    """Go to a network namespace of our own; return why that cannot be, "" if it can."""
    try:
        if not enter_private_namespace():
            unshare(CLONE_NEWNET)
    except (OSError, MissingFeatureError):
        return "no network namespace can be made here without the capability SYS_ADMIN"
    return ""


def _load(families: Sequence[Family]) -> None:
    """Program the namespace as the daemon would, and read it back. Raises NfproxyError."""
    planner = sample()
    kernel = Kernel()
    try:
        reconciler = Reconciler(kernel, planner.desired, planner.config, families, time.monotonic)
        reconciler.sync(planner.desired.everything())
        rows, _ = compare(planner.desired, observe(kernel, families), families)
    finally:
        kernel.close()
    if rows:
        raise MissingFeatureError(
            f"the kernel does not hold what it was given: {rows[0].subject} is {rows[0].change}"
        )


def _library() -> str:
    try:
        return library_version(_STEP_S)
    except NfproxyError:
        return ""


def _listed_by(nft: Sequence[str]) -> str:
    """Return what is wrong when an nft lists what is here, "" if nothing is."""
    return run_nft((*nft, "list", "ruleset"))[1]


def run_nft(command: Sequence[str]) -> tuple[str, str]:
    """Return what an nft prints, and what is wrong if it fails, crashes or hangs."""
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_STEP_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return "", f"nft did not finish within {_STEP_S:g} s"
    except OSError as error:
        return "", f"{command[0]}: {error.strerror}"
    said = " ".join(done.stderr.decode("utf-8", "replace").split())
    if done.returncode < 0:
        return "", f"it is ended by signal {-done.returncode} (11 is a crash)"
    out = done.stdout.decode("utf-8", "replace")
    return out, "" if done.returncode == 0 else said or f"exit status {done.returncode}"


def _give_up(*_: object) -> None:
    """End with what has been started: whoever is waited for is killed on the way out."""
    sys.exit(_TOO_LONG)


def _main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)
    # By itself: were it killed, an nft or libnftables that hangs would be left behind.
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, order.limit_s)
    families = [Family(number) for number in order.families]
    trial = validate(families) if order.validate else perform(families, order.nft)
    os.write(sys.stdout.fileno(), msgspec.json.encode(trial))


if __name__ == "__main__":
    _main()
