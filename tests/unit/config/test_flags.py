"""kube-proxy's flags on a click command."""

import click
import pytest
from click.testing import CliRunner

from nfproxy.config.flags import Flags, GroupedCommand, kube_proxy_flags, node_flags
from nfproxy.config.lookup import BY_FLAG


def invoke(args, decorate=kube_proxy_flags):
    """Run a small command; return click's result and the flags it was called with."""
    seen = []

    @click.command(cls=GroupedCommand)
    @click.option("-f", "--file", "files", multiple=True, help="A manifest.")
    @decorate
    def command(files: tuple[str, ...], flags: Flags) -> None:
        """Try the flags."""
        seen.append((files, flags.given))

    result = CliRunner().invoke(command, args)
    return result, *(seen[0] if seen else ((), None))


def given(*args, decorate=kube_proxy_flags):
    result, _, flags = invoke(args, decorate)
    assert result.exit_code == 0, result.output
    return flags


def test_nothing_given_is_nothing_collected():
    """`load` supplies the defaults."""
    assert given() == {}


@pytest.mark.parametrize("name", BY_FLAG)
def test_every_flag_of_kube_proxy_is_accepted(name):
    """With dashes or underscores, value attached or apart."""
    assert {name: "1"} == given(f"--{name}=1")
    assert {name: "1"} == given(f"--{name.replace('-', '_')}", "1")


@pytest.mark.parametrize("name", [name for name, row in BY_FLAG.items() if row.type.switch])
def test_switches_stand_alone_or_with_a_value(name):
    """``--flag`` and ``--flag=false`` work; a word after a bare switch is not its value."""
    result, files, flags = invoke([f"--{name}", "-f", "x"])

    assert result.exit_code == 0, result.output
    assert (("x",), {name: "true"}) == (files, flags)
    assert {name: "false"} == given(f"--{name}=false")


@pytest.mark.parametrize(
    ("args", "flags"),
    [
        (["--config-sync_period=1m"], {"config-sync-period": "1m"}),
        (
            ["--nodeport-addresses=a,b", "--nodeport-addresses", "c"],
            {"nodeport-addresses": "a,b,c"},
        ),
        (["--master=https://a,https://b", "--master=c"], {"master": "https://a,https://b,c"}),
        (["--nodeport-addresses="], {"nodeport-addresses": ""}),
        (["--cluster-cidr=a", "--cluster-cidr=b"], {"cluster-cidr": "b"}),
        (["-v", "3"], {"v": "3"}),
        (["-v3"], {"v": "3"}),
        (["-v=3"], {"v": "3"}),
        (["--v=3"], {"v": "3"}),
        (["--oom-score-adj", "-998"], {"oom-score-adj": "-998"}),
        (["--cleanup", "--init-only"], {"cleanup": "true", "init-only": "true"}),
    ],
)
def test_flags_are_written_as_for_kube_proxy(args, flags):
    """The values of a list add up; of other flags the last value counts."""
    assert flags == given(*args)


def test_unknown_flags_are_refused():
    """A misspelt flag must not be dropped."""
    result, _, flags = invoke(["--cluster-cidrs=10.0.0.0/8"])

    assert result.exit_code == 2
    assert flags is None
    assert "--cluster-cidrs" in result.output


@pytest.mark.parametrize("decorate", [kube_proxy_flags, node_flags])
def test_help_shows_flags_with_an_effect_and_hides_the_rest(decorate):
    """The help leaves out flags without effect, and other spellings; both work."""
    output = invoke(["--help"], decorate)[0].output

    for shown in ("--cluster-cidr TEXT", "--nodeport-addresses LIST", "--masquerade-all [=BOOL]"):
        assert shown in output
    for hidden in ("ipvs", "--profiling", "--config-sync-period", "--cluster_cidr", "machine-id"):
        assert hidden not in output.replace("iptables, ipvs", "").replace("iptables|ipvs", "")
    assert "Local pods and source NAT:" in output
    assert output.index("A manifest.") < output.index("--cluster-cidr")


def test_commands_that_change_nothing_show_flags_that_bear_on_the_dataplane():
    """They accept the others as well, so that arguments can be reused, except other actions."""
    output = invoke(["--help"], node_flags)[0].output

    assert "--conntrack-min" not in output
    assert given("--conntrack-min=5", decorate=node_flags) == {"conntrack-min": "5"}
    assert invoke(["--cleanup"], node_flags)[0].exit_code == 2


def test_flags_can_be_made_by_name():
    """For callers without a command line."""
    assert Flags({"cluster-cidr": "10.0.0.0/8"}) == Flags.of(cluster_cidr="10.0.0.0/8")
