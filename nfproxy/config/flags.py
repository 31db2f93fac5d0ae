"""
kube-proxy's flags as click options.

The options collect texts. :func:`nfproxy.config.load.load` reads them, so that all bad values are
reported together, in the same words as those of the file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
import msgspec

from nfproxy.config.lookup import BY_FLAG
from nfproxy.config.setting import Setting
from nfproxy.config.validate import describe

F = TypeVar("F", bound=Callable[..., Any])

_PREFIX = "kube_proxy__"  # keeps the options' parameters apart from the command's own
_PLACES = ("config", "kubeconfig", "master", "hostname-override")
_ACTIONS = ("write-config-to", "cleanup", "init-only", "version")


class Flags(msgspec.Struct, frozen=True):
    """
    The flags that were given, as text.

    `given` maps names without dashes to values. Several values of a list are joined by commas; of
    any other flag the last value counts.
    """

    given: Mapping[str, str] = {}

    @classmethod
    def of(cls, **given: str) -> Flags:
        """Return flags by name: ``Flags.of(cluster_cidr="10.0.0.0/8")``."""
        return cls({name.replace("_", "-"): text for name, text in given.items()})


class FlagOption(click.Option):
    """
    One flag of kube-proxy.

    A switch takes ``=true`` and ``=false``. :class:`GroupedCommand` shows it under the heading
    `group`, and takes underscores for its dashes.
    """

    def __init__(
        self, param_decls: Sequence[str] | None = None, *, setting: Setting, hidden: bool
    ) -> None:
        """Make the option of a setting."""
        values = setting.type
        more: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if values.switch else {}
        names = [f"--{setting.flag}", *([f"-{setting.short}"] if setting.short else [])]
        super().__init__(
            [*(param_decls or ()), *names, _parameter(setting)],
            type=str,
            default=None,
            multiple=values.repeatable,
            metavar=f"[={values.metavar}]" if values.switch else values.metavar,
            help=_help(setting),
            hidden=hidden,
            **more,
        )
        self.group = setting.group.value
        self.is_for_node = setting.works and setting.for_node


def _parameter(setting: Setting) -> str:
    return _PREFIX + setting.flag.replace("-", "_")


def _help(setting: Setting) -> str:
    text = f"Deprecated: {setting.help}" if setting.is_deprecated else setting.help
    if not setting.works:
        return f"{text} No effect."
    default = setting.default
    if default in ("", "false", False, (), {}):
        return text
    return f"{text} [default: {describe(default).strip(chr(39))}]"


def kube_proxy_flags(function: F) -> F:
    """
    Give a command all flags of kube-proxy, which it receives as ``flags=Flags(…)``.

    The help leaves out flags without effect. Put it below ``@click.command``.
    """
    return _decorate(function, list(BY_FLAG.values()), shown=lambda setting: setting.works)


def node_flags(function: F) -> F:
    """
    Like :func:`kube_proxy_flags`, for a command that changes nothing on the node.

    It accepts every flag, except those that ask for another action (``--cleanup``, ``--version``
    …). The help shows those that bear on the dataplane.
    """
    settings = [setting for setting in BY_FLAG.values() if setting.flag not in _ACTIONS]
    return _decorate(function, settings, shown=lambda setting: setting.works and setting.for_node)


def context_flags(function: F) -> F:
    """
    Like :func:`node_flags`, for a command that takes its configuration from the nfproxy that runs.

    The help shows only the flags that say where configuration and objects are; ``--help-config``
    shows the others.
    """
    settings = [setting for setting in BY_FLAG.values() if setting.flag not in _ACTIONS]
    decorated = _decorate(function, settings, shown=lambda setting: setting.flag in _PLACES)
    return click.option(
        "--help-config",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_help_with_flags,
        help="Show this message with kube-proxy's flags. Without them the configuration is that of "
        "the nfproxy that runs here.",
    )(decorated)


def _help_with_flags(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    for parameter in ctx.command.params:
        if isinstance(parameter, FlagOption):
            parameter.hidden = not parameter.is_for_node
    click.echo(ctx.get_help())
    ctx.exit()


def _decorate(function: F, settings: list[Setting], shown: Callable[[Setting], bool]) -> F:
    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        return function(*args, flags=take_flags(kwargs), **kwargs)

    for setting in reversed(settings):  # the last decorator's option comes first
        click.option(cls=FlagOption, setting=setting, hidden=not shown(setting))(command)
    return command  # type: ignore[return-value]


def take_flags(parameters: dict[str, Any]) -> Flags:
    """Remove kube-proxy's flags from the parameters that click found, and return them."""
    given = {flag: parameters.pop(_parameter(setting), None) for flag, setting in BY_FLAG.items()}
    return Flags({flag: _text(value) for flag, value in given.items() if value not in (None, ())})


def _text(value: str | tuple[str, ...]) -> str:
    """Join the parts of a list; click leaves the sign of ``-v=2`` in the value, Go does not."""
    return value.removeprefix("=") if isinstance(value, str) else ",".join(value)


class GroupedCommand(click.Command):
    """A command whose help lists kube-proxy's flags under the heading of their group."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Let dashes of options be written as underscores, as kube-proxy does."""
        dashes = {"token_normalize_func": lambda token: token.replace("_", "-")}
        super().__init__(*arguments, **options | {"context_settings": dashes})

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options first, then the groups in their order."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                heading = parameter.group if isinstance(parameter, FlagOption) else "Options"
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
