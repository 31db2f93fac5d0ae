"""
The desired state as one nft script, whatever tables there are.

``nfproxy render`` prints it. A test loads it and compares the tables with those that the element
batches of ``nfproxy run`` make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import ProgramConfig
from nfproxy.nft import ruleset, schema
from nfproxy.nft.chains import Chain
from nfproxy.plan.desired import Desired
from nfproxy.reconcile.lists import NO_LIST, list_transition
from nfproxy.reconcile.transition import ABSENT, Operation, elements_of, transition


def fresh_elements(desired: Desired, family: Family) -> dict[str, list[Operation]]:
    """
    Return the elements of a family, by set, as a first load makes them.

    Sets are in the template's order, elements in the order of their keys.
    """
    by_set: dict[str, list[Operation]] = {name: [] for name in schema.SCHEMAS}
    for operation in _operations(desired, family):
        by_set[operation.set].append(operation)
    for operations in by_set.values():
        operations.sort(key=lambda operation: _sort_key(operation))
    return {name: operations for name, operations in by_set.items() if operations}


def _operations(desired: Desired, family: Family) -> Iterator[Operation]:
    for key, frontend in desired.frontends.items():
        if key.family is family:
            yield from elements_of(key, transition(key, ABSENT, frontend).state)
    for name, listed in desired.lists.items():
        if name.family is family:
            yield from list_transition(name, NO_LIST, listed).operations
    for element in desired.shared_elements:
        if element.family is family:
            yield Operation(True, *element)
    for each, elements in desired.affinity_lists.items():
        if each.family is family:
            yield from (Operation(True, family, *element) for element in elements)


def _sort_key(operation: Operation) -> bytes:
    """Return the key with the slot in network order, so that rows sort by slot."""
    key = operation.key
    if operation.set.startswith(("endpoints-", "node-port-endpoints-", "list-endpoints-")):
        return key[:-4] + schema.number_of(key, len(key) - 4).to_bytes(4, "big")
    return key


def wanted_chains(desired: Desired, family: Family) -> dict[str, Chain]:
    """Return the chains that a family's elements need, by name."""
    return {
        chain.name: chain
        for key, frontend in desired.frontends.items()
        if key.family is family
        for chain in frontend.chains
    }


def script(desired: Desired, config: ProgramConfig, families: Sequence[Family]) -> str:
    """
    Return one nft script that makes tables exactly as desired, whatever was there.

    The same desired state gives the same text. ``nft -f`` applies it as one transaction.
    """
    return "".join(_table(desired, config, family) for family in families)


def element_text(desired: Desired, operation: Operation) -> str:
    """Return an element as nft writes it, a frontend with its name."""
    _, family, name, key, value = operation
    comment = desired.names.comment(family, name, key) if name in schema.COUNTED else ""
    return schema.format_element(schema.SCHEMAS[name], key, value, family, comment)


def _table(desired: Desired, config: ProgramConfig, family: Family) -> str:
    chains = wanted_chains(desired, family)
    parts = [ruleset.replacement_text(config, family, chains.values())]
    for name, operations in fresh_elements(desired, family).items():
        rows = ",\n".join(f"\t{element_text(desired, o)}" for o in operations)
        parts.append(f"add element {family.table} {schema.TABLE} {name} {{\n{rows}\n}}\n")
    return "".join(parts)
