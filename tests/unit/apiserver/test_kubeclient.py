"""The parts of the official client that are used."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import nfproxy.apiserver.source, nfproxy.apiserver.events
heavy = {"pydantic", "kubernetes.aio.client.models", "kubernetes.aio.client.api", "dateutil"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from nfproxy.apiserver.kubeclient import Configuration
import kubernetes.aio.client
assert kubernetes.aio.client.Configuration is Configuration
assert kubernetes.aio.client.ApiClient(Configuration())
"""


def test_the_rest_of_the_client_is_not_imported():
    """
    It takes 20 MB; and who imports it all the same gets it whole, with the same classes.
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], check=True, timeout=60)
