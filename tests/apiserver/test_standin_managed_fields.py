"""managedFields, which a client may decline. Of the stand-in alone: the real gate is off."""

from pathlib import Path

from support.apiserver import StandIn
from support.apiserver.client import Client


def test_managed_fields_are_declined_where_the_server_knows_that(tmp_path: Path):
    """
    With the gate of Kubernetes 1.38; without it the parameter is ignored. Neither answers 406.
    """
    item = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a", "namespace": "d", "managedFields": [{"manager": "m"}]},
    }
    accept = {"Accept": "application/json;drop=metadata.managedFields, application/json"}
    for knows in (False, True):
        with StandIn(managed_fields_opt_out=knows) as api:
            api.apply(item)
            client = Client(api.write_kubeconfig(tmp_path / "config"))
            for headers, has in ((accept, not knows), ({}, True)):
                answer = client.request("GET", "/api/v1/services", headers=headers)
                assert answer.code == 200
                assert ("managedFields" in answer.content["items"][0]["metadata"]) == has
                path = "/api/v1/services?watch=1&resourceVersion=0"
                with client.open(path, headers) as stream:
                    assert (b"managedFields" in stream.readline()) == has
