"""
From the flags given to the configuration in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from nfproxy.config import defaults
from nfproxy.config.advice import Place, advise
from nfproxy.config.decode import decode
from nfproxy.config.document import read_document
from nfproxy.config.flags import Flags
from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.config.problems import InvalidConfigError, Problem, describe
from nfproxy.config.settings import BY_FIELD, BY_FLAG, BY_KEY
from nfproxy.config.validate import validate

_MODULES = "logging.vmodule"


class LoadedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    The configuration in force, and what to tell about it.

    `config` has mode ``nftables`` and every default filled in. `file` is the
    configuration file's path, "" without one. The rest are the flags that have no
    field; `version` is "", "true", "raw" or the version to report.
    """

    config: KubeProxyConfiguration
    warnings: tuple[str, ...] = ()
    file: str = ""
    master: str = ""
    write_config_to: str = ""
    cleanup: bool = False
    init_only: bool = False
    version: str = ""


def load(flags: Flags) -> LoadedConfig:
    """
    Return the configuration that flags, and the file they name, ask for.

    kube-proxy's precedence: with a file nearly all flags are ignored; those that are
    not win over it. Raises ConfigError, with every value that cannot be used.
    """
    flagged, problems = _read_flags(flags)
    file = flagged.get("--config", "")
    warnings: list[str] = []
    if file:
        document = read_document(file)
        decoded = decode(document.data, file)
        problems += decoded.problems
        warnings += [*document.warnings, *decoded.warnings, *_ignored(flagged, file)]
        flagged = {key: value for key, value in flagged.items() if BY_KEY[key].beside_file}
        given = _over(decoded.values, flagged)
        config = defaults.from_file(_fields(given))
    else:
        given = flagged
        ports = (flagged.get("--healthz-port"), flagged.get("--metrics-port"))
        config = defaults.from_flags(_fields(given), *ports)
    place = _places(flagged, file)
    warnings += advise(config, given, place, file=bool(file))
    config = defaults.effective(config)
    _refuse(problems, validate(config), place)
    version = flagged.get("--version", "")
    return LoadedConfig(
        config=config,
        warnings=tuple(warnings),
        file=file,
        master=flagged.get("--master", ""),
        write_config_to=flagged.get("--write-config-to", ""),
        cleanup=flagged.get("--cleanup", False),
        init_only=flagged.get("--init-only", False),
        version="" if version == "false" else version,
    )


def _read_flags(flags: Flags) -> tuple[dict[str, Any], list[Problem]]:
    """Return the flags' values by setting key, and what could not be read."""
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, text in flags.given.items():
        setting = BY_FLAG[name]
        if name == "hostname-override" and not text:
            continue  # as if it were not there, so that it does not blank the file's name
        try:
            value = setting.kind.from_text(text)
            if not setting.kind.fits(value):
                raise ValueError("out of range")
        except ValueError:
            accepts = setting.kind.accepts
            problems.append(Problem(setting.key, describe(text), accepts, where=f"--{name}"))
        else:
            values[setting.key] = value
    return values, problems


def _ignored(flagged: Mapping[str, Any], file: str) -> Iterable[str]:
    names = [f"--{BY_KEY[key].flag}" for key in flagged if not BY_KEY[key].beside_file]
    if names:
        yield f"{', '.join(names)}: ignored, since --config is given; set it in {file}"


def _over(values: Mapping[str, Any], flagged: Mapping[str, Any]) -> dict[str, Any]:
    """Put flags over a file's values; lists of modules are joined, the flag's first."""
    both = {**values, **flagged}
    if _MODULES in flagged:
        both[_MODULES] = flagged[_MODULES] + values.get(_MODULES, ())
    return both


def _fields(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key in BY_FIELD}


def _places(flagged: Mapping[str, Any], file: str) -> Place:
    def place(key: str) -> str:
        flag = BY_KEY[key].flag if key in BY_KEY else ""
        if flag and (key in flagged or not file):
            return f"--{flag}"
        return f"{file}: {key}" if file else key

    return place


def _refuse(problems: list[Problem], found: Iterable[Problem], place: Place) -> None:
    """Raise if anything is wrong; judgements that rest on unreadable values are left out."""
    unread = {problem.field for problem in problems}
    judged = [p for p in found if unread.isdisjoint((p.field, *p.others))]
    everything = [p if p.where else p._replace(where=place(p.field)) for p in problems + judged]
    if everything:
        raise InvalidConfigError(everything)
