"""
nf_tables in memory, as strict as the kernel's: what it refuses, the kernel refuses.

``tests/unit/dataplane/test_strictness.py`` holds both to that. Differences that remain:
a rule is text, of which only the names of chains and sets are understood, and remembered
clients never expire.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from support.kernel.nfttext import FAMILY_OF_WORD, parse_element

from nfproxy.errors import DataplaneError, TransactionError
from nfproxy.model.addresses import Family
from nfproxy.netlink.nftables import ChainRow, Hook, TableRow
from nfproxy.nft.chains import is_clients_map
from nfproxy.nft.schema import NEXT_TABLE, SCHEMAS, TABLE, Field, Interval, Value, Verdict
from nfproxy.reconcile.transition import Operation

_COMMAND = re.compile(
    r"(?:(?P<verb>add|delete|flush) )?(?P<what>table|chain|map|element) "
    r"(?P<family>ip6?) (?P<table>nfproxy(?:-next)?)"
    r"(?: (?P<name>[a-z0-9-]+))?(?: (?P<body>\{.*))?"
)
_BLOCK = re.compile(r"\t(?P<what>map|set|chain) (?P<name>[a-z0-9-]+) \{")
_TARGET = re.compile(r"\b(?:goto|jump) ([a-z0-9-]+)")
_SET_NAME = re.compile(r"@([a-z0-9-]+)")


@dataclass
class FakeTable:
    """One family's table: rules by chain, elements by set."""

    rules: dict[str, list[str]] = field(default_factory=dict)
    hooks: dict[str, str] = field(default_factory=dict)
    declarations: dict[str, str] = field(default_factory=dict)
    elements: dict[str, dict[bytes, Value]] = field(default_factory=dict)
    comment: str = ""

    def copy(self) -> "FakeTable":
        """Return a table that changes independently."""
        return FakeTable(
            {name: list(rules) for name, rules in self.rules.items()},
            dict(self.hooks),
            dict(self.declarations),
            {name: dict(elements) for name, elements in self.elements.items()},
            self.comment,
        )

    def targets(self) -> set[str]:
        """Return the chains that rules and elements point to."""
        texts = [rule for rules in self.rules.values() for rule in rules]
        values = [value for held in self.elements.values() for value in held.values()]
        return {name for text in texts for name in _TARGET.findall(text)} | {
            value.chain for value in values if isinstance(value, Verdict) and value.chain
        }


class FakeKernel:
    """
    A Dataplane for the reconciler.

    `tables` are those named nfproxy, `next_tables` those of the second name.
    `watch` is called after each transaction that took effect. `transactions` counts them,
    `operations` the element operations in them, `reads` the sets that were read, `asked`
    the elements that were asked for one by one.
    """

    def __init__(self) -> None:
        """Start without tables."""
        self.tables: dict[Family, FakeTable] = {}
        self.next_tables: dict[Family, FakeTable] = {}
        self.table = TABLE
        self.watch: Callable[[], None] = lambda: None
        self.transactions = 0
        self.operations = 0
        self.reads = 0
        self.asked = 0
        self.transaction_limit: int | None = None
        self._sent: Sequence[Operation] = ()

    # --- what the reconciler asks for ----------------------------------------------------

    def load(self, text: str) -> None:
        """Run a script of the kind nfproxy writes, whole or not at all."""
        self._finish_sent()
        self._transact(lambda: _Script(self._all_tables, text).run())

    def commit(self, operations: Sequence[Operation]) -> None:
        """Commit element operations in order, whole or not at all."""
        if operations:
            self._transact(lambda: self._apply(operations))
            self.operations += len(operations)

    def commit_all(self, transactions: Iterable[Sequence[Operation]]) -> None:
        """Commit one after the other, each when the next one has been made."""
        try:
            for operations in transactions:
                self._finish_sent()
                self._sent = operations
            self._finish_sent()
        finally:
            self._sent = ()

    def _finish_sent(self) -> None:
        sent, self._sent = self._sent, ()
        if sent:
            self.commit(sent)

    def use_names(self, names: object) -> None:
        """Write no names."""

    def expect_load(self) -> None:
        """Nothing is to be prepared."""

    @property
    def rest_at(self) -> None:
        """Nothing is to be ended."""

    def rest(self) -> None:
        """End nothing."""

    @property
    def _all_tables(self) -> dict[str, dict[Family, FakeTable]]:
        return {TABLE: self.tables, NEXT_TABLE: self.next_tables}

    def _table(self, family: Family) -> FakeTable | None:
        return self._all_tables[self.table].get(family)

    def table_row(self, family: Family, table: str) -> TableRow | None:
        """Return a table, None if there is none."""
        found = self._all_tables[table].get(family)
        return TableRow(family, table, is_dormant=False, comment=found.comment) if found else None

    def chains(self, family: Family, table: str = "") -> list[ChainRow]:
        """Return the chains of a table."""
        found = self._all_tables[table or self.table].get(family)
        return [_row(family, name, name in found.hooks) for name in found.rules] if found else []

    def elements(self, family: Family, name: str) -> list[tuple[bytes, Value]]:
        """Return a set's elements."""
        self.reads += 1
        table = self._table(family)
        return list(table.elements.get(name, {}).items()) if table else []

    def find(self, family: Family, name: str, keys: Iterable[bytes]) -> list[tuple[bytes, Value]]:
        """Return those elements of a set that have one of some keys."""
        table = self.tables.get(family, FakeTable())
        held, asked = table.elements.get(name, {}), list(keys)
        self.asked += len(asked)
        return [(key, held[key]) for key in asked if key in held]

    def set_names(self, family: Family) -> list[str]:
        """Return the names of a table's sets and maps."""
        table = self._table(family)
        return list(table.elements) if table else []

    # --- what others do to a kernel ------------------------------------------------------

    def record(self, family: Family, clients: str, client: bytes, number: bytes) -> None:
        """Do what a record chain does: remember the number of a client's endpoint."""
        self.tables[family].elements[clients].setdefault(client, number)

    def clients(self, family: Family) -> dict[tuple[str, bytes], Value]:
        """Return the remembered clients by map and address: the numbers of their endpoints."""
        table = self.tables.get(family, FakeTable())
        return {
            (name, client): number
            for name, held in table.elements.items()
            if is_clients_map(name)
            for client, number in held.items()
        }

    # --- transactions --------------------------------------------------------------------

    def _transact(self, change: Callable[[], None]) -> None:
        before, before_next = (
            {family: table.copy() for family, table in tables.items()}
            for tables in (self.tables, self.next_tables)
        )
        try:
            change()
        except BaseException:
            self.tables, self.next_tables = before, before_next
            raise
        self.transactions += 1
        self.watch()

    def _apply(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            table = self._table(operation.family)
            if table is None or operation.set not in table.elements:
                raise TransactionError(f"no set {operation.set}")
            if operation.add:
                add_element(table, operation.set, operation.key, operation.value)
            elif table.elements[operation.set].pop(operation.key, _MISSING) is _MISSING:
                raise TransactionError(f"deleting what is absent: {operation}")


_MISSING = object()


def add_element(table: FakeTable, name: str, key: bytes, value: Value) -> None:
    """Add an element. Raises TransactionError where the kernel would refuse it."""
    held = table.elements[name]
    if key in held:
        if held[key] != value:
            raise TransactionError(f"{name} holds this key with another value")
        return
    schema = SCHEMAS[name]
    if (value is None) != (schema.value is None) or isinstance(value, Verdict) != schema.verdicts:
        raise TransactionError(f"{value!r} is no value for {name}")
    if schema.interval is not Interval.NO and any(_overlap(key, other, name) for other in held):
        raise TransactionError(f"{name}: ranges overlap")
    if isinstance(value, Verdict) and value.chain and value.chain not in table.rules:
        raise TransactionError(f"no chain {value.chain}")
    held[key] = value


def _overlap(one: bytes, other: bytes, name: str) -> bool:
    """Return whether two ranges have a member in common: they meet in each field."""
    half = len(one) // 2
    size = half - 4 * sum(field is not Field.ADDRESS for field in SCHEMAS[name].key)
    size //= sum(field is Field.ADDRESS for field in SCHEMAS[name].key)
    at = 0
    for kind in SCHEMAS[name].key:
        width = size if kind is Field.ADDRESS else 4
        here = slice(at, at + width)
        if one[here] > other[half:][here] or other[here] > one[half:][here]:
            return False
        at += width
    return True


class _Script:
    """One run of an nft script."""

    def __init__(self, tables: dict[str, dict[Family, FakeTable]], text: str) -> None:
        self._tables = tables
        self._lines = iter(text.splitlines())

    def run(self) -> None:
        for line in self._lines:
            if line.strip() and not line.startswith("#"):
                self._command(line)
        for table in (one for tables in self._tables.values() for one in tables.values()):
            unknown = table.targets() - table.rules.keys()
            rules = " ".join(rule for rules in table.rules.values() for rule in rules)
            unknown |= set(_SET_NAME.findall(rules)) - table.elements.keys()
            if unknown:
                raise TransactionError(f"no such chain or set: {sorted(unknown)}")

    def _command(self, line: str) -> None:
        match = _COMMAND.fullmatch(line)
        if match is None:
            raise TransactionError(f"syntax error: {line!r}")
        family, name = FAMILY_OF_WORD[match["family"]], match["name"]
        tables = self._tables[match["table"]]
        if match["what"] == "table":
            self._table(tables, match["verb"] or "add", family, block=match["body"] == "{")
            return
        table = tables.get(family)
        if table is None:
            raise TransactionError(f"no table {family.table} nfproxy")
        if match["what"] == "element":
            self._elements(table, name)
        elif match["what"] == "map":
            if table.elements.pop(name, None) is None:
                raise TransactionError(f"no map {name}")
            del table.declarations[name]
        else:
            self._chain(table, match["verb"], name, match["body"] or "")

    def _table(
        self, tables: dict[Family, FakeTable], verb: str, family: Family, *, block: bool
    ) -> None:
        if verb == "delete":
            if tables.pop(family, None) is None:
                raise TransactionError(f"no table {family.table} nfproxy")
            return
        is_new = family not in tables
        table = tables.setdefault(family, FakeTable())
        if not block:
            return
        for line in self._lines:
            if line == "}":
                return
            if is_new and line.startswith('\tcomment "'):
                table.comment = line.split('"')[1]
            match = _BLOCK.fullmatch(line)
            if match is None:
                continue  # a comment or the table's comment
            body = self._block()
            if match["what"] == "chain":
                hook = body.pop(0) if body and body[0].startswith("type ") else ""
                self._chain(table, "add", match["name"], hook and f"{{ {hook} }}")
                table.rules[match["name"]] += body
            else:
                self._declare(table, match["name"], body)
        raise TransactionError("a table's block does not end")

    def _block(self) -> list[str]:
        body: list[str] = []
        for line in self._lines:
            if line == "\t}":
                return body
            if line.strip():
                body.append(line.strip())
        raise TransactionError("a block does not end")

    def _declare(self, table: FakeTable, name: str, body: list[str]) -> None:
        declaration = "\n".join(line for line in body if line.startswith(("typeof ", "flags ")))
        if table.declarations.setdefault(name, declaration) != declaration:
            raise TransactionError(f"{name} exists, of another kind")
        table.elements.setdefault(name, {})

    def _chain(self, table: FakeTable, verb: str, name: str, hook: str) -> None:
        if verb == "add":
            if name in table.rules and hook and table.hooks.get(name) != hook:
                raise TransactionError(f"chain {name} exists, of another kind")
            if hook:
                table.hooks[name] = hook
            table.rules.setdefault(name, [])
            return
        if name not in table.rules:
            raise TransactionError(f"no chain {name}")
        if verb == "flush":
            table.rules[name] = []
            return
        del table.rules[name]  # its rules go with it
        if name in table.targets():
            raise TransactionError(f"chain {name} is in use")
        table.hooks.pop(name, None)

    def _elements(self, table: FakeTable, name: str) -> None:
        for line in self._lines:
            if line == "}":
                return
            if name not in table.elements:
                raise TransactionError(f"no set {name}")
            add_element(table, name, *parse_element(SCHEMAS[name], line.strip().rstrip(",")))
        raise TransactionError("a list of elements does not end")


class FlakyKernel(FakeKernel):
    """
    A kernel that fails when the test asks for it.

    `faults` holds, for the coming calls in order, "" (nothing happens), "before" (refused) or
    "after" (done, but reported as failed: a child that crashed, an answer that was lost).
    Reading counts as a call, too; both ways of failing are the same then.
    """

    def __init__(self) -> None:
        """Start without tables and without faults."""
        super().__init__()
        self.faults: list[str] = []

    def load(self, text: str) -> None:
        """Run a script, or fail."""
        self._flaky(lambda: super(FlakyKernel, self).load(text))

    def commit(self, operations: Sequence[Operation]) -> None:
        """Commit operations, or fail."""
        if operations:
            self._flaky(lambda: super(FlakyKernel, self).commit(operations))

    def elements(self, family: Family, name: str) -> list[tuple[bytes, Value]]:
        """Return elements, or fail."""
        if self.faults and self.faults.pop(0):
            raise DataplaneError("injected: cannot be read")
        return super().elements(family, name)

    def _flaky(self, change: Callable[[], None]) -> None:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "before":
            raise TransactionError("injected: refused", code="ENOMEM")
        change()
        if fault == "after":
            raise DataplaneError("injected: done, but the caller does not know")


def _row(family: Family, name: str, is_base: bool) -> ChainRow:
    hook = Hook("nat", 0, -100) if is_base else None
    return ChainRow(family, TABLE, name, hook, 1 if is_base else None)
