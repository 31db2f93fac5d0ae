"""What the API server learns of foreign changes."""

from support.processes.apidaemon import Site
from support.processes.commands import node_object, service, wait_until


def test_a_repair_makes_one_event_on_the_node(site: Site) -> None:
    """With the program, and how long it took; further ones within an hour make none."""
    site.api.apply(node_object(), service())
    with site.daemon() as daemon:
        for times in (1, 2):
            site.commands.nft("delete table ip nfproxy")
            daemon.wait_for("repaired table ip nfproxy", times)
        wait_until(lambda: site.events("TablesDisturbed"))
        (event,) = site.events("TablesDisturbed")

    assert (event["type"], event["regarding"]["kind"]) == ("Warning", "Node")
    assert event["note"].startswith("nft (pid ")
    assert "deleted table ip nfproxy; repaired after" in event["note"]
