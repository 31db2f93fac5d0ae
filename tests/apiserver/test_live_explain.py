"""``nfproxy explain`` with an API server: few requests, kubectl's rights, and what is missing."""

from support.insight import give_node_routes, shop
from support.processes.apidaemon import Site
from support.processes.commands import Result

CIDR = "--cluster-cidr=10.244.0.0/16"


def explain(site: Site, *arguments: object) -> Result:
    """Run the command against the API server."""
    return site.commands.run("explain", *arguments, "--kubeconfig", site.kubeconfig, CIDR)


def test_one_service_is_read_and_not_the_cluster(site: Site) -> None:
    """The Service by name, its slices by label, this Node, and the ServiceCIDRs."""
    site.api.apply(*shop())
    site.api.forget_requests()
    result = explain(site, "shop/catalog")

    assert result.code == 1
    assert "PortNotInSlices" in result.out
    assert "p12" in result.out
    asked = sorted(
        (one.resource, one.query.get("labelSelector") or one.query.get("fieldSelector", ""))
        for one in site.api.requests()
    )
    assert asked == [
        ("endpointslices", "kubernetes.io/service-name=catalog"),
        ("nodes", "metadata.name=node-1"),
        ("servicecidrs", ""),
        ("services", "metadata.name=catalog"),
    ]
    assert "other Services" in result.out


def test_an_address_is_looked_for_everywhere(site: Site) -> None:
    """Its Service is unknown, so all are read."""
    site.api.apply(*shop())
    result = explain(site, "203.0.113.120:80")

    assert result.code == 0
    assert "an external IP of shop/mail" in result.out
    assert "other Services" not in result.out


def test_near_names_are_looked_for(site: Site) -> None:
    """In the namespace, and of the same name in others."""
    site.api.apply(*shop())

    assert "is it shop/web?" in explain(site, "shop/wbe").out
    assert "is it team-b/mail2, shop/mail?" in explain(site, "shop/mail2").out


def test_all_nodes(site: Site) -> None:
    """All Nodes are read, and still not the cluster's Services."""
    site.api.apply(*shop())
    result = explain(site, "shop/audit", "--all-nodes")

    assert (result.code, result.out.count("\nnode\t")) == (0, 2)


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "batch-7", "namespace": "jobs"},
    "spec": {"nodeName": "node-1"},
    "status": {"podIP": "10.244.1.77", "podIPs": [{"ip": "10.244.1.77"}, {"ip": "fd00::77"}]},
}


def test_a_client_that_no_slice_lists_is_asked_for(site: Site) -> None:
    """One request for one pod; the Service's slices name others."""
    site.api.apply(*shop(), POD)
    site.api.permit("pods")
    site.api.forget_requests()
    result = explain(site, "shop/web", "--from", "jobs/batch-7")

    assert result.code == 0, result.err
    assert "10.244.1.77 (pod jobs/batch-7)" in result.out
    assert [(one.verb, one.path) for one in site.api.requests() if one.resource == "pods"] == [
        ("get", "/api/v1/namespaces/jobs/pods/batch-7")
    ]


def test_a_client_that_may_not_be_read_is_named_by_its_address(site: Site) -> None:
    """Without the right to get pods, or without that pod."""
    site.api.apply(*shop(), POD)
    refused = explain(site, "shop/web", "--from", "jobs/batch-7")
    listed = explain(site, "shop/web", "--from", "shop/p11")
    site.api.permit("pods")
    absent = explain(site, "shop/web", "--from", "jobs/batch-8")

    for result in (refused, absent):
        assert (result.code, result.out) == (2, "")
        assert "kubectl -n jobs get pod batch-" in result.err
    assert listed.code == 0, listed.err


def test_without_the_right_to_read_nodes_it_says_so(site: Site) -> None:
    """The answer is there, with what it does not rest on."""
    site.api.apply(*shop())
    site.api.forbid("nodes")
    result = explain(site, "shop/web")

    assert result.code == 0
    assert "not seen\tNodes" in result.out


def test_without_the_right_to_read_services_it_could_not_find_out(site: Site) -> None:
    """Status 2, in one line."""
    site.api.apply(*shop())
    site.api.forbid("services")
    result = explain(site, "shop/web")

    assert (result.code, result.out) == (2, "")
    assert "403" in result.err


def test_without_the_api_server_it_could_not_find_out(site: Site) -> None:
    """Within seconds."""
    site.api.refuse()
    result = explain(site, "shop/web")

    assert (result.code, result.out) == (2, "")
    assert "refuses connections" in result.err


def test_beside_a_daemon_nothing_is_asked_where_all_is_well(site: Site) -> None:
    """The daemon has the objects; what fails is looked up at the API server, too."""
    give_node_routes(site.namespace)
    site.api.apply(*shop())
    with site.daemon():
        site.api.forget_requests()
        works = site.commands.run("explain", "shop/web", node="")
        asked = len(site.api.requests())
        fails = site.commands.run("explain", "shop/catalog", node="")
        refused = site.api.refuse()
        alone = site.commands.run("explain", "shop/search", node="")

    assert (works.code, asked) == (0, 0)
    assert fails.code == 1
    assert "p12" in fails.out
    assert "named 'http-alt'" in fails.out
    assert refused is None
    assert alone.code == 1
    assert "NoneReady" in alone.out
    assert "not seen\tnames of pods" in alone.out
