"""The values of flags on /flagz."""

from nfproxy.config.flags import Flags
from nfproxy.config.load import load
from nfproxy.config.lookup import BY_FLAG
from nfproxy.servers.zpages import flag_values


def test_every_flag_has_a_value():
    """A flag that was not given has its default."""
    values = flag_values(load(Flags()))

    assert BY_FLAG.keys() == values.keys()
    assert values["healthz-bind-address"] == "0.0.0.0:10256"
    assert values["conntrack-tcp-timeout-established"] == "24h0m0s"
    assert values["proxy-mode"] == "nftables"
    assert values["kube-api-qps"] == "5"
    assert values["cleanup"] == "false"
    assert values["version"] == "false"


def test_values_are_written_as_go_prints_them():
    """Lists in brackets, gates by name, durations in Go's form."""
    flags = Flags.of(
        nodeport_addresses="10.0.0.0/8,192.168.0.0/16",
        feature_gates="B=false,A=true",
        master="https://10.0.0.1:6443",
        healthz_port="7",
        iptables_sync_period="90s",
        bind_address_hard_fail="true",
    )
    values = flag_values(load(flags))

    assert values["nodeport-addresses"] == "[10.0.0.0/8,192.168.0.0/16]"
    assert values["feature-gates"] == "A=true,B=false"
    assert values["master"] == "https://10.0.0.1:6443"
    assert values["healthz-port"] == "7"
    assert values["iptables-sync-period"] == "1m30s"
    assert values["bind-address-hard-fail"] == "true"
