"""What commands say of the configuration that they work with."""

from __future__ import annotations

import pytest
from support.objects.model import changes, service

from nfproxy.cli import inputs
from nfproxy.cli.running import RunningDaemon
from nfproxy.config.flags import Flags
from nfproxy.errors import InputError
from nfproxy.insight.daemonstatus import DaemonStatus
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.plan.planner import Planner

CONFIGURATION = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": "KubeProxyConfiguration",
}


@pytest.mark.parametrize(("pid", "says"), [(1, False), (4711, True)])
def test_in_its_own_container_the_nfproxy_is_not_named(
    pid: int, says: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No other could be meant; with many nodes it would be a line for each."""
    status = DaemonStatus(
        version="0.1.0", pid=pid, node="node-1", started="", configuration=CONFIGURATION
    )
    daemon = RunningDaemon(status, None)
    monkeypatch.setattr(inputs, "running_daemon", lambda: daemon)

    assert inputs.configured(Flags()).daemon == daemon
    assert ("configuration of the nfproxy that runs here" in capsys.readouterr().err) is says


@pytest.mark.parametrize("asked", ["shop/web", "default/wbe"])
def test_near_names_are_those_that_explain_offers(asked: str) -> None:
    """A Service of the same name in another namespace, or one of a near name in this one."""
    planner = Planner(NodeConfig(node_name="node-1"))
    planner.apply(changes(service("web"), service("api", cluster_ips=("10.96.0.2",))))
    with pytest.raises(InputError) as raised:
        inputs.asked_services(planner, [asked])

    assert str(raised.value) == f"there is no Service {asked}; there is default/web"
