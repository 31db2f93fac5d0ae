"""What commands say of the configuration that they work with."""

from __future__ import annotations

import pytest

from nfproxy.cli import inputs
from nfproxy.cli.running import RunningDaemon
from nfproxy.config.flags import Flags
from nfproxy.insight.daemonstatus import DaemonStatus

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
