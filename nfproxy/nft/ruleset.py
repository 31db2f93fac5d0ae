"""
From templates to nft text: the program of a table, and single chains.

The templates are in ``rulesets/``. They receive only numbers, words of nft and checked interface
names, never text of an object.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable
from importlib import resources
from pathlib import Path

import jinja2

from nfproxy.errors import ConfigError
from nfproxy.model.addresses import Family, collapse, format_address
from nfproxy.model.nodeconfig import (
    INTERFACE_NAMES,
    LONGEST_INTERFACE_NAME,
    ProgramConfig,
    is_interface_name,
)
from nfproxy.model.service import Protocol
from nfproxy.nft import schema
from nfproxy.nft.chains import (
    BASE_CHAINS,
    FIXED_CHAINS,
    AffinityList,
    Chain,
    Draw,
    Guard,
    Policy,
    RecordChain,
    Shape,
    clients_maps,
    smaller_size,
)
from nfproxy.nft.endpointnumbers import FIRST_NUMBER, NUMBER_MASK, SEED
from nfproxy.nft.stages import IN_PLACE, TABLE_COMMENT, Stage
from nfproxy.text import quoted

_LOOPBACK = {Family.IPV4: "127.0.0.0/8", Family.IPV6: "::1"}

#: Every other component translates destinations at a lower priority; -100 is usual.
_LATE = 1000

# How often a chain draws from a list before it takes one of the slots that are filled for certain.
# An attempt finds an empty slot at most once in three, so at most one connection in 81 gets there.
_ATTEMPTS = 4

# Comparisons of two addresses by 16 hashes: all of them agree by chance once in 2^64.
_HAIRPIN_CHECKS = 16

_NUMBERED = f"meta priority & 0x{NUMBER_MASK:08x} == 0x{FIRST_NUMBER:08x}"

_BASE = {
    "nat-prerouting": "type nat hook prerouting priority -100; policy accept;",
    "nat-output": "type nat hook output priority -100; policy accept;",
    "nat-prerouting-late": f"type nat hook prerouting priority {_LATE}; policy accept;",
    "nat-output-late": f"type nat hook output priority {_LATE}; policy accept;",
    "nat-postrouting": "type nat hook postrouting priority 100; policy accept;",
    "nat-input": "type nat hook input priority 100; policy accept;",
}


def read_template(name: str) -> str:
    """Return a file of ``rulesets/``: from the installed package or, in a checkout, next to it."""
    try:
        packaged = resources.files("nfproxy.rulesets")
    except ModuleNotFoundError:
        return (Path(__file__).parents[2] / "rulesets" / name).read_text("utf-8")
    return packaged.joinpath(name).read_text("utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(  # noqa: S701 - the output is nft, not HTML
        loader=jinja2.FunctionLoader(read_template),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=False,
        keep_trailing_newline=True,
    )


def _render(template: str, **values: object) -> str:
    refused = schema.REFUSED_COUNTERS
    return _environment().get_template(template).render(refused=refused, **values)


def local_pod_match(config: ProgramConfig, family: Family) -> tuple[str, str]:
    """
    Return the match for packets from a pod of this node, and the match for all others.

    Both are "" where the rules cannot recognise local pods (``detectLocalMode``).
    Raises ConfigError for an interface name that nft does not accept.
    """
    pods = config.local_pods
    if pods.bridge or pods.interface_prefix:
        name = pods.bridge or pods.interface_prefix
        if not is_interface_name(name):
            raise ConfigError(
                f"interface name {quoted(name)} is not accepted", f"use {INTERFACE_NAMES}"
            )
        # A prefix as long as a name can be is a whole name, and nft refuses a wildcard behind it.
        whole = pods.bridge or len(name) == LONGEST_INTERFACE_NAME
        pattern = f'"{name}"' if whole else f'"{name}*"'
        return f"iifname {pattern}", f"iifname != {pattern}"
    prefix = pods.prefixes.get(family)
    if prefix is None:
        return "", ""
    return f"{family.table} saddr {prefix}", f"{family.table} saddr != {prefix}"


def far_pod_match(config: ProgramConfig, family: Family) -> str:
    """
    Return the match for packets that may be from a pod of another node; "" where none can be.

    Mode ClusterCIDR takes pods of other nodes for local ones. An endpoint elsewhere would answer
    such a pod directly, past this node, which alone can translate the answer back.
    """
    pods = config.local_pods
    prefix = pods.prefixes.get(family)
    if prefix is None or pods.own is None:
        return ""
    source = f"{family.table} saddr"
    own = collapse([*pods.own.get(family, ())])
    if any(prefix.network in p and p.length <= prefix.length for p in own):
        return ""
    return " ".join((f"{source} {prefix}", *(f"{source} != {p}" for p in own)))


def _mark(config: ProgramConfig) -> str:
    return f"0x{config.masquerade_mark:08x}"


def table_text(config: ProgramConfig, family: Family, stage: Stage = IN_PLACE) -> str:
    """Return the declaration of a family's sets, maps and fixed chains."""
    return _render(
        "table.nft.j2",
        family=family.table,
        table=stage.table,
        hooked=stage.hooked,
        loopback=_LOOPBACK[family],
        mark=_mark(config),
        late=_LATE,
        hashes=schema.HASHES,
        hash_seeds=range(1, _HAIRPIN_CHECKS + 1),
        node_port_all=family in config.node_ports_everywhere,
        rejects_loopback=config.rejects_loopback,
        rejected_counters={p.word: name for p, name in schema.REJECTED_COUNTERS.items()},
        protocols=[p.word for p in Protocol],
        list_endpoints={p.word: names for p, names in schema.LIST_ENDPOINTS.items()},
        affinity_endpoints={p.word: names for p, names in schema.AFFINITY_ENDPOINTS.items()},
        affinity_full=schema.AFFINITY_FULL,
        numbered=_NUMBERED,
        comment=TABLE_COMMENT,
    )


def chain_text(chain: Chain, config: ProgramConfig, family: Family) -> str:
    """Return the text of one chain, as within a table block."""
    local_pod, not_local_pod = local_pod_match(config, family)
    if isinstance(chain, Shape):
        return _shape_text(
            chain,
            family,
            local_pod,
            not_local_pod,
            far_pod_match(config, family),
            config.masquerade_all,
            _mark(config),
        )
    if isinstance(chain, Draw):
        return _draw_text(chain, family)
    if isinstance(chain, Guard):
        return _guard_text(chain, family)
    if isinstance(chain, RecordChain):
        return _affinity_text(
            family,
            kind="record",
            name=chain.name,
            protocol=chain.protocol.word,
            lists=[_numbered(item, chain.protocol) for item in chain.lists],
            timeout_s=chain.timeout_s,
        )
    return _affinity_text(
        family,
        kind="find",
        name=chain.name,
        protocol=chain.protocol.word,
        policy=chain.policy.value,
        cluster=_numbered(chain.cluster, chain.protocol),
        local=_numbered(chain.local, chain.protocol),
        prefer_local=chain.policy is Policy.LOCAL,
        local_pod=local_pod,
        not_local_pod=not_local_pod,
        far_pod=far_pod_match(config, family),
        masquerade_all=config.masquerade_all,
        mark=_mark(config),
    )


def _affinity_text(family: Family, **values: object) -> str:
    return _render(
        "affinity.nft.j2",
        family=family.table,
        seed=SEED,
        first_number=FIRST_NUMBER,
        numbered=_NUMBERED,
        affinity_full=schema.AFFINITY_FULL,
        **values,
    )


def _numbered(item: AffinityList | None, protocol: Protocol) -> tuple[str, int, int, str] | None:
    if item is None:
        return None
    return (
        item.name,
        *item.halves,
        schema.map_of(schema.AFFINITY_ENDPOINTS[protocol], item.number),
    )


def _blocks(chains: Iterable[Chain], config: ProgramConfig, family: Family) -> str:
    """Return the text of chains, and of the maps that the kernel fills for them."""
    wanted = sorted(chains, key=lambda chain: chain.name)
    maps = {name for chain in wanted for name in clients_maps(chain.name, chain)}
    texts = [_render("clients.nft.j2", family=family.table, name=name) for name in sorted(maps)]
    return "\n".join([*texts, *(chain_text(chain, config, family) for chain in wanted)])


def _guard_text(guard: Guard, family: Family) -> str:
    bits = 8 * family.size
    masks = {
        # A mask of all bits is left out by nft when it lists the rule.
        length: ""
        if length == bits
        else format_address((((1 << length) - 1) << bits - length).to_bytes(family.size, "big"))
        for length in reversed(guard.lengths)
    }
    return _render(
        "guard.nft.j2",
        family=family.table,
        name=guard.name,
        number=schema.halves(guard.number),
        masks=masks,
    )


def _draw_text(draw: Draw, family: Family) -> str:
    return _render(
        "draw.nft.j2",
        family=family.table,
        protocol=draw.protocol.word,
        name=draw.name,
        number=schema.halves(draw.list),
        map=schema.map_of(schema.LIST_ENDPOINTS[draw.protocol], schema.number64_bytes(draw.list)),
        base=0 if draw.local else schema.CLUSTER_BASE,
        size=draw.size,
        smaller=smaller_size(draw.size),
        attempts=_ATTEMPTS,
    )


@functools.lru_cache(maxsize=4096)
def _shape_text(
    shape: Shape,
    family: Family,
    local_pod: str,
    not_local_pod: str,
    far_pod: str,
    masquerade_all: bool,
    mark: str,
) -> str:
    return _render(
        "shape.nft.j2",
        family=family.table,
        protocol=shape.protocol.word,
        name=shape.name,
        policy=shape.policy.value,
        node_port=shape.node_port,
        routed=shape.routed,
        local=shape.local,
        cluster=shape.cluster,
        cluster_base=schema.CLUSTER_BASE,
        draws={"local" if draw.local else "cluster": draw.name for draw in shape.draws},
        local_pod=local_pod,
        not_local_pod=not_local_pod,
        far_pod=far_pod,
        masquerade_all=masquerade_all,
        mark=mark,
    )


def chains_text(
    chains: Iterable[Chain], config: ProgramConfig, family: Family, stage: Stage = IN_PLACE
) -> str:
    """
    Return the text that makes chains in an existing table; chains that exist get new rules.

    Idempotent. As one script it is one transaction.
    """
    wanted = list(chains)
    lines = [_empty_chain(family, name, stage) for name in sorted(chain.name for chain in wanted)]
    blocks = _blocks(wanted, config, family)
    return "".join(lines) + f"table {family.table} {stage.table} {{\n{blocks}}}\n"


def _empty_chain(family: Family, name: str, stage: Stage) -> str:
    where = f"chain {family.table} {stage.table} {name}"
    hook = f" {{ {_BASE[name]} }}" if name in BASE_CHAINS else ""
    return f"add {where}{hook}\nflush {where}\n"


def program_text(
    config: ProgramConfig,
    family: Family,
    chains: Iterable[Chain],
    foreign: Collection[str] = (),
    stage: Stage = IN_PLACE,
) -> str:
    """
    Return the text that gives a table its program and does not change its elements.

    It makes the table or works on one of the same layout. It replaces the rules of the fixed chains
    and of `chains`, and removes `foreign`: base chains that another process made.
    As one script it is one transaction: no packet meets a state in between.
    """
    text = [f'table {family.table} {stage.table} {{\n\tcomment "{TABLE_COMMENT}"\n}}\n']
    fixed = (name for name in FIXED_CHAINS if stage.hooked or name not in BASE_CHAINS)
    text += [_empty_chain(family, name, stage) for name in fixed]
    text.append(table_text(config, family, stage))
    text.append(chains_text(chains, config, family, stage))
    text += [delete_chain_text(family, name, stage.table) for name in sorted(foreign)]
    return "".join(text)


def delete_chain_text(family: Family, name: str, table: str = schema.TABLE) -> str:
    """Return the text that removes a chain; no element may point to it."""
    where = f"chain {family.table} {table} {name}"
    return f"flush {where}\ndelete {where}\n"


def delete_map_text(family: Family, name: str, table: str = schema.TABLE) -> str:
    """Return the text that removes a map; no rule may use it."""
    return f"delete map {family.table} {table} {name}\n"


def delete_table_text(family: Family, table: str) -> str:
    """Return the text that removes a table, whether or not it is there."""
    # ``add`` comes before ``delete``, so that this works without a table, too.
    return f"add table {family.table} {table}\ndelete table {family.table} {table}\n"


def replacement_text(
    config: ProgramConfig, family: Family, chains: Iterable[Chain], stage: Stage = IN_PLACE
) -> str:
    """Return the text that replaces a table, of any layout, by a new one without elements."""
    blocks = _blocks(chains, config, family)
    text = table_text(config, family, stage)
    if blocks:
        text = f"{text.rstrip().removesuffix('}').rstrip()}\n\n{blocks}}}\n"
    return delete_table_text(family, stage.table) + text
