"""nfproxy's tables and several versions of nft: none crashes, and all list the same."""

import itertools
import re
import subprocess
from collections.abc import Callable

import pytest
from support.golden import case
from support.kernel.real import RealKernel
from support.kernel.tables import dump
from tools.nft_versions import Nft, versions

from nfproxy.model.addresses import FAMILIES
from nfproxy.nft.chains import is_clients_map
from nfproxy.nft.schema import SCHEMAS
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.tools.lab import Lab, Namespace

CASE = case("everything")
PAIRS = list(itertools.permutations(versions(), 2))

#: What another program may do to nfproxy's table: add elements and a chain.
MORE = """\
add element ip nfproxy cluster-ips { 10.96.0.99 }
add chain ip nfproxy cluster-tcp-99
add rule ip nfproxy cluster-tcp-99 dnat ip to ip daddr . tcp dport . \
numgen random mod 99 map @endpoints-tcp
add element ip nfproxy frontends { 10.96.0.99 . tcp . 80 : goto cluster-tcp-99 }
add element ip6 nfproxy service-cidrs { fd00:aa::/64 }
"""


def nft(namespace: Namespace, command: Nft, *arguments: str, text: str | None = None) -> str:
    """Run an nft. Fails with its errors, and distinguishes a crash from a refusal."""
    done: subprocess.CompletedProcess[str] = namespace.run(
        [command.command, *arguments], input=text, check=False
    )
    status = done.returncode
    assert 0 <= status < 128, f"nft {command} crashed ({status}): {done.stderr[:500]}"
    assert status == 0, f"nft {command} refused: {done.stderr[:500]}"
    return done.stdout


def by_text(namespace: Namespace, writer: Nft) -> None:
    """Load the script that ``nfproxy render`` prints."""
    nft(namespace, writer, "-f", "-", text=CASE.script())


def by_netlink(namespace: Namespace, _: Nft) -> None:
    """Do what ``nfproxy run`` does: the program by libnftables, elements by netlink."""
    planner: Planner = CASE.planner()
    with RealKernel(namespace) as kernel:
        Reconciler(kernel, planner.desired, planner.config, FAMILIES, lambda: 0.0).sync(
            planner.desired.everything()
        )


Write = Callable[[Namespace, Nft], None]


@pytest.mark.parametrize("write", [by_text, by_netlink])
@pytest.mark.parametrize(("writer", "reader"), PAIRS, ids=str)
def test_one_version_lists_loads_and_changes_tables_of_another(
    lab: Lab, writer: Nft, reader: Nft, write: Write
):
    """
    A host's nft and the image's differ. Each lists the other's tables, loads its listing into
    another namespace, and adds elements and chains. Both then read the same.
    """
    tables, copies = lab.namespace("tables"), lab.namespace("copies")
    write(tables, writer)

    with RealKernel(tables) as written, RealKernel(copies) as copied:
        nft(copies, reader, "-f", "-", text=nft(tables, reader, "list", "ruleset"))
        assert dump(written) == dump(copied)

        nft(copies, writer, "-f", "-", text="flush ruleset\n")
        nft(copies, writer, "-f", "-", text=in_numbers(nft(tables, reader, "list", "ruleset")))
        assert dump(written) == dump(copied)

        for target in (tables, copies):
            nft(target, reader, "-f", "-", text=MORE)
        assert dump(written) == dump(copied)
    for target in (tables, copies):
        assert normal(nft(target, writer, "list", "ruleset")) == normal(
            nft(target, reader, "list", "ruleset")
        )
    nft(tables, reader, "-f", "-", text=CASE.script())
    nft(tables, writer, "list", "ruleset")


@pytest.mark.parametrize("reader", versions(), ids=str)
def test_elements_by_netlink_list_like_those_by_text(lab: Lab, reader: Nft):
    """A listing does not show which of the two ways an element came."""
    texts = []
    for write in (by_text, by_netlink):
        namespace = lab.namespace(write.__name__)
        write(namespace, versions()[0])
        texts.append(normal(nft(namespace, reader, "list", "ruleset")))

    assert "10.96.0.10 . udp . 53" in str(texts[0])
    assert texts[0] == texts[1]


@pytest.mark.parametrize("write", [by_text, by_netlink])
@pytest.mark.parametrize("reader", versions(), ids=str)
def test_every_set_is_declared_by_typeof(lab: Lab, reader: Nft, write: Write):
    """What a newer nft records for `type` crashes an older one. Only base chains say `type`."""
    namespace = lab.namespace("tables")
    write(namespace, versions()[-1])
    listing = nft(namespace, reader, "--terse", "list", "ruleset")
    blocks = re.findall(r"\t(?:set|map) (\S+) \{\n(.*?)\n\t\}", listing, re.DOTALL)
    types = re.findall(r"\btype \S+ \S+", re.sub(r"(?m)\bfib .*$", "", listing))

    assert {name for name, _ in blocks if not is_clients_map(name)} == SCHEMAS.keys()
    assert any(is_clients_map(name) for name, _ in blocks)
    assert [name for name, body in blocks if "typeof " not in body] == []
    assert {"type nat hook"} == set(types)


def in_numbers(listing: str) -> str:
    """
    Return a listing with numbers as priorities, as nfproxy writes them.

    A newer nft prints words that nft 1.0.6 refuses (dstnat in output, srcnat in input).
    """
    listing = listing.replace("priority dstnat;", "priority -100;")
    return listing.replace("priority srcnat;", "priority 100;")


def normal(listing: str) -> dict[str, object]:
    """
    Return the lines of a listing by block, with elements in sorted order.

    Versions print protocols as numbers if there is no /etc/protocols, priorities as words or as
    numbers, and wrap lines differently.
    """
    for number, word in (("6", "tcp"), ("17", "udp"), ("132", "sctp")):
        listing = re.sub(rf"(?<=\. ){number}(?= \.)", word, listing)
        listing = re.sub(rf"(?<=[,{{] ){number}(?= \. \d)", word, listing)
    listing = in_numbers(listing)
    listing = re.sub(r"\s+expires \S+|\bcounter packets \d+ bytes \d+\s*", " ", listing)
    blocks: dict[str, object] = {}
    table = ""
    for line in re.sub(r",\s+", ", ", listing).splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = words[1]
        elif words[:1] in (["set"], ["map"], ["chain"]):
            body: list[str] = []
            blocks[f"{table} {words[1]}"] = body
        elif words and words != ["}"] and blocks:
            text = " ".join(words)
            if text.startswith("elements = "):
                inside = text.removeprefix("elements = {").removesuffix("}")
                body.append(f"elements {sorted(part.strip() for part in inside.split(','))}")
            else:
                body.append(text)
    return blocks
