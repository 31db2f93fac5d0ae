"""What the ClusterRole grants is what nfproxy asks for: no less, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from support.apiserver.resources import RESOURCES
from support.manifests import Object, find, named, overlay
from support.manifests.kustomize import overlays
from support.processes.apidaemon import Site
from support.processes.commands import endpoint_slice, errors_in, node_object, service

PRESENTED = "pod-token"
USER = "system:serviceaccount:kube-system:nfproxy"

WEB = {"10.96.0.1:80/tcp": ("10.244.1.5:8080",)}

Grant = tuple[str, str, str]


def grants(objects: Iterable[Object]) -> list[Grant]:
    """Return what the ClusterRole grants: (group, resource, verb)."""
    return [
        (group, resource, verb)
        for rule in find(objects, "ClusterRole")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


@pytest.fixture
def granted(site: Site) -> Site:
    """A site whose API server has the manifests' RBAC objects, and whose daemon is in the pod."""
    site.api.set_rbac(overlay("base"))
    site.api.add_token(PRESENTED, USER)
    site.kubeconfig = site.api.write_kubeconfig(
        Path(site.kubeconfig).with_name("pod"), "tokenFile", token=PRESENTED
    )
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
    return site


def test_the_daemon_asks_for_all_that_is_granted_and_for_nothing_else(granted: Site) -> None:
    """
    Compared with the requests it makes: at its start, after a lost connection, and with an Event
    that is sent again.
    """
    granted.api.configure(streaming_lists=False)  # with them there is no request that lists
    with granted.daemon() as daemon:
        granted.serves(WEB)
        granted.wait_for_event("Starting")
        granted.api.apply(service(port="eighty"))
        granted.wait_for_event("Undecodable")
        granted.api.apply(service())
        granted.api.apply(service(port="eighty"))
        granted.api.wait_for_requests("events", "patch")
        granted.api.restart()
        granted.api.wait_for_watches(count=4)
        granted.serves(WEB)
        asked = granted.api.requests()
        assert errors_in(daemon.log) == []
        assert not re.search(r"(?<!\.)\b403\b", daemon.log)  # the time has a 403, too, at times
    assert {request.user for request in asked} == {USER}
    assert [request for request in asked if request.code == 403] == []
    used = {(RESOURCES[r.resource].group, r.resource, r.verb) for r in asked}
    listed = grants(overlay("base"))
    assert used == {*listed}
    assert len(listed) == len({*listed})


@pytest.mark.parametrize("name", overlays(one_off=True))
def test_no_overlay_grants_more(name: str) -> None:
    """Nor to any other user."""
    base, objects = overlay("base"), overlay(name)
    kinds = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    of = [{named(i): i for i in each if i["kind"] in kinds} for each in (base, objects)]
    assert of[1].items() <= of[0].items()
