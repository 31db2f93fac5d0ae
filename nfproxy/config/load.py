"""
From the flags given, and the file they name, to the effective configuration.

Source: kube-proxy's precedence of flags and file, and its defaulting of unset, zero and empty
values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

import msgspec

from nfproxy.config.addresses import (
    HEALTHZ_PORT,
    METRICS_PORT,
    PRIMARY,
    is_address,
    with_port,
)
from nfproxy.config.commandline import CommandLine
from nfproxy.config.decoding import decode
from nfproxy.config.flags import Flags
from nfproxy.config.kubeproxy import MODES, KubeProxyConfiguration
from nfproxy.config.lookup import BY_FIELD, BY_FLAG, BY_KEY, value_of, with_values
from nfproxy.config.setting import Group, Setting
from nfproxy.config.validate import (
    InvalidConfigError,
    InvalidValue,
    Place,
    describe,
    validate,
    warnings_about,
)
from nfproxy.model.addresses import Family, family_of, parse_address
from nfproxy.text import quoted

_ADDRESSES = ("bindAddress", "healthzBindAddress", "metricsBindAddress")
_MODULES = "logging.vmodule"

# How to reach the API server and what to log is each process's own.
_OWN = (Group.API_SERVER, Group.LOGGING)


class LoadedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    The effective configuration, the flags without field, and warnings about both.

    `config` has mode ``nftables`` and every default filled in.
    """

    config: KubeProxyConfiguration
    command_line: CommandLine = CommandLine()
    warnings: tuple[str, ...] = ()

    @property
    def config_data(self) -> dict[str, Any]:
        """The configuration as data, as a file has it."""
        data: dict[str, Any] = msgspec.to_builtins(self.config, enc_hook=str)
        return data

    def value(self, setting: Setting) -> Any:
        """Return the value of a setting, from a flag, the file or the defaults."""
        holder = self.config if setting.field else self.command_line
        return reduce(getattr, setting.names, holder)


def load(flags: Flags, running: LoadedConfig | None = None) -> LoadedConfig:
    """
    Return the configuration that flags, and the file they name, ask for.

    With a file nearly all flags are ignored; the others win over it. Without one, what no flag
    gives is as in `running`, the configuration of an nfproxy that runs, or a default. Raises
    ConfigError, with every value that cannot be used.
    """
    given, invalid = _read_flags(flags)
    file = given.get("--config", "")
    warnings: list[str] = []
    if file:
        # Imported here: without a file, nothing needs YAML.
        from nfproxy.config.document import read_document

        document = read_document(file)
        decoded = decode(document.data, file)
        invalid += decoded.invalid
        warnings += [*document.warnings, *decoded.warnings, *_ignored(given, file)]
        given = {key: value for key, value in given.items() if BY_KEY[key].overrides_file}
        place = _places(given, file)
        command_line, given = _command_line(given), _over(decoded.values, given)
        config = _from_file(_fields(given))
    elif running is not None:
        place = _places(given, file)
        command_line = msgspec.structs.replace(running.command_line, **_of_command_line(given))
        config = with_values(running.config, _fields(given))
    else:
        place = _places(given, file)
        command_line = _command_line(given)
        ports = (given.get("--healthz-port"), given.get("--metrics-port"))
        config = _from_flags(_fields(given), *ports)
    warnings += warnings_about(config, given, place, has_file=bool(file))
    config = _effective(config)
    _refuse(invalid, validate(config), place)
    return LoadedConfig(config=config, command_line=command_line, warnings=tuple(warnings))


def effective_config(data: Any, name: str) -> KubeProxyConfiguration:
    """
    Return an effective configuration from its data, as ``write_config`` and the pages write it.

    `name` is for messages. Raises ConfigError.
    """
    decoded = decode(data, name)
    config = _effective(_from_file(decoded.values))
    _refuse([*decoded.invalid], validate(config), _places({}, name))
    return config


def _read_flags(flags: Flags) -> tuple[dict[str, Any], list[InvalidValue]]:
    """Return the flags' values by setting key, and the texts that are no value."""
    values: dict[str, Any] = {}
    invalid: list[InvalidValue] = []
    for name, text in flags.given.items():
        setting = BY_FLAG[name]
        if name == "hostname-override" and not text:
            continue  # counts as absent; otherwise it would replace the file's name by nothing
        try:
            value = setting.type.from_text(text)
            if not setting.type.fits(value):
                raise ValueError("out of range")
        except ValueError:
            accepts = setting.type.accepts
            invalid.append(InvalidValue(setting.key, describe(text), accepts, where=f"--{name}"))
        else:
            values[setting.key] = value
    return values, invalid


def _command_line(given: Mapping[str, Any]) -> CommandLine:
    return CommandLine(**_of_command_line(given))


def _of_command_line(given: Mapping[str, Any]) -> dict[str, Any]:
    return {BY_KEY[key].names[0]: value for key, value in given.items() if key not in BY_FIELD}


def _ignored(given: Mapping[str, Any], file: str) -> Iterable[str]:
    names = [f"--{BY_KEY[key].flag}" for key in given if not BY_KEY[key].overrides_file]
    if names:
        yield f"{', '.join(names)}: ignored, since --config is given; set it in {file}"


def _over(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Put flags over a file's values; lists of modules are joined, the flag's first."""
    both = {**values, **given}
    if _MODULES in given:
        both[_MODULES] = given[_MODULES] + values.get(_MODULES, ())
    return both


def _fields(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key in BY_FIELD}


def _from_file(values: Mapping[str, Any]) -> KubeProxyConfiguration:
    """
    Return the configuration that a file's values make.

    Zero and "" mean unset, except in fields that are pointers in the API. The servers' default
    addresses are of the family of ``bindAddress``.
    """
    kept = {
        path: value
        for path, value in values.items()
        if BY_FIELD[path].keeps_zero or (value and value != "0")
    }
    config = with_values(KubeProxyConfiguration(), kept)
    bind = config.bind_address
    ipv6 = is_address(bind) and family_of(parse_address(bind)) is Family.IPV6
    healthz = kept.get("healthzBindAddress", "::" if ipv6 else "0.0.0.0")  # noqa: S104
    metrics = kept.get("metricsBindAddress", "::1" if ipv6 else "127.0.0.1")
    return _with_servers(config, with_port(healthz, HEALTHZ_PORT), with_port(metrics, METRICS_PORT))


def _from_flags(
    values: Mapping[str, Any], healthz_port: int | None, metrics_port: int | None
) -> KubeProxyConfiguration:
    """
    Return the configuration that flags make: an explicit zero or "" is a value.

    Only an empty address means the default. The deprecated port flags supply the port of an
    address without one; health port 0 turns the health server off.
    """
    kept = {path: value for path, value in values.items() if value or path not in _ADDRESSES}
    config = with_values(KubeProxyConfiguration(), kept)
    healthz = with_port(config.healthz_bind_address, healthz_port or HEALTHZ_PORT)
    metrics = with_port(config.metrics_bind_address, metrics_port or METRICS_PORT)
    return _with_servers(config, "" if healthz_port == 0 else healthz, metrics)


def _with_servers(
    config: KubeProxyConfiguration, healthz: str, metrics: str
) -> KubeProxyConfiguration:
    return with_values(config, {"healthzBindAddress": healthz, "metricsBindAddress": metrics})


def _effective(config: KubeProxyConfiguration) -> KubeProxyConfiguration:
    """
    Return the configuration with the values that kube-proxy chooses by platform.

    Every mode that kube-proxy has on Linux becomes nftables; others stay, and `validate` refuses
    them.
    """
    return with_values(
        config,
        {
            "mode": "nftables" if config.mode in ("", *MODES) else config.mode,
            "detectLocalMode": config.detect_local_mode or "ClusterCIDR",
            "nodePortAddresses": config.node_port_addresses or (PRIMARY,),
        },
    )


def _places(flagged: Mapping[str, Any], file: str) -> Place:
    """Return the function that names where a setting was given, or may be given."""

    def place(key: str) -> str:
        flag = BY_KEY[key].flag if key in BY_KEY else ""
        if flag and (key in flagged or not file):
            return f"--{flag}"
        return f"{file}: {key}" if file else key

    return place


def contradictions(
    config: KubeProxyConfiguration, running: KubeProxyConfiguration, given: Mapping[str, str]
) -> Iterator[str]:
    """
    Yield each setting of the dataplane that differs, with both values.

    `given` has the flags of the command, by name: a setting is called as it was given.
    """
    for path, setting in BY_FIELD.items():
        if not setting.for_node or setting.group in _OWN:
            continue
        here, there = value_of(config, path), value_of(running, path)
        if here != there:
            name = f"--{setting.flag}" if setting.flag in given else path
            yield f"{name}: {_shown(here)} here, and {_shown(there)} in the nfproxy that runs here"


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return quoted(",".join(map(str, value)))
        case dict():
            return quoted(",".join(f"{k}={_shown(v)}" for k, v in sorted(value.items())))
        case str():
            return quoted(value) if value else "empty"
    return str(value)


def _refuse(unread: list[InvalidValue], found: Iterable[InvalidValue], place: Place) -> None:
    """Raise for values that cannot be read, and for judgements that do not depend on those."""
    fields = {invalid.field for invalid in unread}
    judged = [invalid for invalid in found if fields.isdisjoint((invalid.field, *invalid.others))]
    everything = [v if v.where else v._replace(where=place(v.field)) for v in unread + judged]
    if everything:
        raise InvalidConfigError(everything)
