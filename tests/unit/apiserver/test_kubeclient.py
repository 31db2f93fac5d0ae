"""The parts of the official client that are used, and what happens when they are gone."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORTED = """
import sys
import nfproxy.apiserver.source, nfproxy.apiserver.eventposter
heavy = {"pydantic", "kubernetes.aio.client.models", "kubernetes.aio.client.api", "dateutil"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from nfproxy.apiserver.kubeclient import Configuration
import kubernetes.aio.client
assert kubernetes.aio.client.Configuration is Configuration
assert kubernetes.aio.client.ApiClient(Configuration())
"""

DAEMON = """
import ssl, sys
import nfproxy.daemon.assembly
needless = {"aiohttp.web", "aiohttp.web_app", "argparse", "importlib.metadata", "watchfiles"}
assert not needless & set(sys.modules), needless & set(sys.modules)
from aiohttp import connector
for context in (connector._SSL_CONTEXT_VERIFIED, connector._SSL_CONTEXT_UNVERIFIED):
    assert context.cert_store_stats()["x509_ca"] == 0
assert "set_default_verify_paths" not in vars(ssl.SSLContext)
"""

WITHOUT = """
import importlib
from nfproxy.errors import MissingFeatureError
module = importlib.import_module("kubernetes.aio.{module}")
{removal}
try:
    import nfproxy.apiserver.connection
except MissingFeatureError as error:
    print(error)
"""

OTHER_LAYOUT = """
import importlib.util
found = importlib.util.find_spec
def find_spec(name, package=None):
    if name == "kubernetes":
        raise ImportError("no such layout")
    return found(name, package)
importlib.util.find_spec = find_spec
from nfproxy.apiserver.kubeclient import RESTClientObject
import kubernetes.aio.client.rest
assert kubernetes.aio.client.rest.RESTClientObject is RESTClientObject
"""


def run(code: str) -> str:
    """Run code in a process of its own; return what it prints."""
    arguments = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(arguments, check=True, timeout=60, capture_output=True, text=True).stdout


def test_the_rest_of_the_client_is_not_imported():
    """It takes 20 MB; a later import gets the whole client, with the same classes."""
    run(IMPORTED)


def test_the_daemon_loads_what_it_needs():
    """Each of these takes time at every start; certificates are read for connections alone."""
    run(DAEMON)


@pytest.mark.parametrize(
    ("module", "removal", "name"),
    [
        ("client.rest", "del module.RESTClientObject", "RESTClientObject"),
        ("client.rest", "del module.RESTClientObject._create_connector", "_create_connector"),
        (
            "config.kube_config",
            "del module.KubeConfigLoader.load_from_exec_plugin",
            "load_from_exec_plugin",
        ),
    ],
)
def test_a_name_that_is_gone_is_an_error_at_start(module, removal, name):
    """The error names it, and the versions of the client that have it."""
    text = run(WITHOUT.format(module=module, removal=removal))

    assert name in text
    assert "kubernetes>=37,<38" in text


def test_another_layout_costs_memory_only():
    """If the short way does not work, the whole client is imported."""
    run(OTHER_LAYOUT)
