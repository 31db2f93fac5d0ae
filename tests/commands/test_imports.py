"""Commands load what they need, and nothing else: most of a short command's time is imports."""

from __future__ import annotations

import re
from pathlib import Path

from support.processes.commands import Commands, endpoint_slice, node_object, service, write

#: What a command needs that asks an API server, or none at all.
_HTTP = {"aiohttp", "asyncio", "email", "http.client", "kubernetes", "ssl"}
_OTHERS = {"nfproxy.apiserver", "nfproxy.daemon", "prometheus_client", "pyroute2", "watchfiles"}

#: What a command needs that reads files, or that writes rules or colours.
_FILES, _RULES, _COLOURS = {"nfproxy.manifests", "yaml"}, {"jinja2"}, {"rich"}

#: What a command needs that plans.
_PLANNING = {"nfproxy.config.kubeproxy", "nfproxy.plan.planner", "nfproxy.reconcile"}

_ANY = _HTTP | _OTHERS | _COLOURS
_BY_DAEMON = _ANY | _FILES | _RULES
_WITHOUT = {
    ("status",): _BY_DAEMON | _PLANNING,
    ("changes",): _BY_DAEMON | _PLANNING,
    ("services",): _BY_DAEMON,
    ("explain", "default/web"): _BY_DAEMON,
    ("trace", "default/web", "--seconds", "0.1"): _ANY | _RULES,
    ("diff",): _ANY,
    ("render",): _ANY,
}


def test_commands_on_a_node_load_what_they_need(commands: Commands, manifests: Path) -> None:
    """They ask the nfproxy that runs there; what they would need without it stays away."""
    commands.namespace.run(["ip", "link", "set", "lo", "up"])
    write(manifests / "all.json", node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    found = {}
    with commands.daemon(manifests) as daemon:
        daemon.wait_for("serving metrics")
        for words in _WITHOUT:
            argv = commands.argv(*words, prefix=["env", "PYTHONPROFILEIMPORTTIME=1"], node="")
            errors = commands.namespace.run(argv, check=False, timeout_s=60).stderr
            modules = set(re.findall(r"^import time:.*\| +(\S+)$", errors, re.MULTILINE))
            assert "nfproxy.cli.running" in modules
            found[words] = modules

    needless = {words: found[words] & modules for words, modules in _WITHOUT.items()}
    assert needless == {words: set() for words in _WITHOUT}
