"""
What the options of a LIST or WATCH mean, and what a LIST answers.

Source: k8s.io/apimachinery ListOptions and its validation, k8s.io/apiserver pkg/storage and
its watch cache, Kubernetes 1.36.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import re

import msgspec
from support.apiserver.resources import Resource, Target, watching
from support.apiserver.selectors import Selection, field_requirements, label_requirements
from support.apiserver.status import StatusError, invalid_options
from support.apiserver.store import Collection, Record

_NOT_OLDER, _EXACT = "NotOlderThan", "Exact"
_INCONSISTENT = (
    "The provided continue parameter is too old to display a consistent list result. You can "
    "start a new list without the continue parameter, or use the continue token in this "
    "response to retrieve the remainder of the results. Continuing with the provided token "
    "results in an inconsistent list - objects that were created, modified, or deleted between "
    "the time the first chunk was returned and now may show up in the list."
)
_MALFORMED = "invalid continue token: continue key is not valid"
_TOO_OLD = "The resourceVersion for the provided list is too old."


class Options(msgspec.Struct, frozen=True):
    """The query of a LIST or WATCH. `initial` is ``sendInitialEvents``, None where absent."""

    selection: Selection
    version: str = ""
    match: str = ""
    limit: int = 0
    rest: str = ""
    watch: bool = False
    timeout_s: int = 0
    bookmarks: bool = False
    initial: bool | None = None
    drops_managed_fields: bool = False

    @property
    def needed(self) -> int:
        """The version that must have been reached before there is an answer; 0: any."""
        if self.watch and not self.initial:
            return 0
        return 0 if self.rest else int(self.version or 0)

    @property
    def exact(self) -> int:
        """The version that is asked for and no other; 0: any."""
        legacy = not self.match and self.limit and not self.watch
        return int(self.version or 0) if legacy or self.match == _EXACT else 0


class Page(msgspec.Struct, frozen=True):
    """A LIST's answer. `rest` is the token for more, `remaining` how much, None if unknown."""

    items: list[Record]
    version: int
    rest: str = ""
    remaining: int | None = None

    def encode(self, resource: Resource) -> list[bytes]:
        """Return the pieces of the answer's body."""
        metadata: dict[str, object] = {"resourceVersion": str(self.version)}
        if self.rest:
            metadata["continue"] = self.rest
        if self.remaining is not None:
            metadata["remainingItemCount"] = self.remaining
        head = msgspec.json.encode(
            {
                "kind": f"{resource.kind}List",
                "apiVersion": resource.api_version,
                "metadata": metadata,
            }
        )
        return [head[:-1], b',"items":[', b",".join([r.body() for r in self.items]), b"]}\n"]


def options(target: Target, resource: Resource, query: dict[str, str], streaming: bool) -> Options:
    """Read a query. `streaming`: the feature WatchList. Raises StatusError, 400 or 422."""
    made = Options(
        Selection(
            target.namespace,
            label_requirements(query.get("labelSelector", "")),
            field_requirements(query.get("fieldSelector", ""), resource),
        ),
        query.get("resourceVersion", ""),
        query.get("resourceVersionMatch", ""),
        _number(query, "limit"),
        query.get("continue", ""),
        watching(query),
        _number(query, "timeoutSeconds"),
        _flag(query, "allowWatchBookmarks") or False,
        _flag(query, "sendInitialEvents"),
    )
    _check(made, streaming)
    if streaming and made.watch and made.initial is None and made.version in ("", "0"):
        return msgspec.structs.replace(made, initial=True)  # as the real server's defaults have it
    return made


def asks_to_drop_managed_fields(accept: str) -> bool:
    """Return whether the first type of an Accept header has the parameter of KEP-5958."""
    _, *parameters = accept.partition(",")[0].split(";")
    return "drop=metadata.managedFields" in (parameter.strip() for parameter in parameters)


def drop_managed_fields(text: bytes) -> bytes:
    """Return a list, or an event, without the managedFields of its objects."""
    content = msgspec.json.decode(text)
    for item in content.get("items") or [content.get("object", content)]:
        item.get("metadata", {}).pop("managedFields", None)
    return msgspec.json.encode(content)


def _number(query: dict[str, str], name: str) -> int:
    text = query.get(name, "") or "0"
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise StatusError(400, f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return max(0, int(text))


def _flag(query: dict[str, str], name: str) -> bool | None:
    return None if name not in query else query[name].lower() not in ("0", "false", "")


def _check(made: Options, streaming: bool) -> None:
    match, causes = made.match, []
    where = "resourceVersionMatch"
    if made.version and not re.fullmatch(r"[0-9]{1,19}", made.version):
        raise StatusError(
            400,
            f'invalid resource version: resourceVersion: Invalid value: "{made.version}": '
            f'strconv.ParseUint: parsing "{made.version}": invalid syntax',
        )
    if made.watch:
        if made.initial is not None and match != _NOT_OLDER:
            causes.append((where, f"sendInitialEvents requires setting {where} to {_NOT_OLDER}"))
        if made.initial is not None and not streaming:
            word = "sendInitialEvents"
            text = f"{word} is forbidden for watch unless the WatchList feature gate is enabled"
            causes.append((word, text))
        if match and made.initial is None:
            text = f"{where} is forbidden for watch unless sendInitialEvents is provided"
            causes.append((where, text))
    else:
        if match and not made.version:
            causes.append((where, f"{where} is forbidden unless resourceVersion is provided"))
        if match == _EXACT and made.version == "0":
            text = f'{where} "exact" is forbidden for resourceVersion "0"'
            causes.append((where, text))
        if made.initial is not None:
            word = "sendInitialEvents"
            causes.append((word, f"{word} is forbidden for list"))
    if match not in ("", _EXACT, _NOT_OLDER):
        causes.append((where, f'Unsupported value: "{match}"'))
    if match and made.rest:
        causes.append((where, f"{where} is forbidden when continue is provided"))
    if causes:
        raise invalid_options(*(("FieldValueForbidden", f, f"Forbidden: {t}") for f, t in causes))


def list_page(collection: Collection, asked: Options, now: int) -> Page:
    """Return the answer to a LIST. Raises StatusError."""
    scope = f"{asked.selection.namespace}/" if asked.selection.namespace else ""
    version, start = now, scope
    records: list[Record] | None
    if asked.rest:
        if asked.version not in ("", "0"):
            text = "specifying resource version is not allowed when using continue"
            raise StatusError(400, text)
        token_version, start = _decode(asked.rest)
        start = scope + start
        version = token_version if token_version > 0 else now
        records = collection.continued(version) if token_version > 0 else collection.at(now)
        if records is None:
            fresh = _encode(start.removeprefix(scope), -1)
            raise StatusError(410, _INCONSISTENT, metadata={"continue": fresh})
    else:
        version = asked.exact or now
        records = collection.at(version)
        if records is None:
            raise StatusError(410, _TOO_OLD)
    first = bisect.bisect_left(records, start, key=lambda r: r.key)
    last = bisect.bisect_left(records, f"{scope[:-1]}0", key=lambda r: r.key) if scope else None
    return _page(records[first:last], asked, version, scope)


def _page(records: list[Record], asked: Options, version: int, scope: str) -> Page:
    # a list at any version comes out of the cache, which knows no pages
    limit = 0 if asked.version == "0" else asked.limit
    items: list[Record] = []
    for number, record in enumerate(records, 1):
        if record.selected(asked.selection):
            items.append(record)
        if limit and len(items) == limit and number < len(records):
            rest = _encode(f"{record.key.removeprefix(scope)}\0", version)
            remaining = len(records) - limit if asked.selection.everything else None
            return Page(items, version, rest, remaining)
    return Page(items, version)


def _encode(start: str, version: int) -> str:
    token = msgspec.json.encode({"v": "meta.k8s.io/v1", "rv": version, "start": start})
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


def _decode(token: str) -> tuple[int, str]:
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        content = msgspec.json.decode(data, type=dict[str, str | int])
        version, start = int(content["rv"]), str(content["start"])
    except (binascii.Error, msgspec.DecodeError, KeyError, ValueError) as error:
        raise StatusError(400, f"{_MALFORMED}: {error}") from error
    if not version or not start:
        raise StatusError(400, f"{_MALFORMED}: it has no version or no start")
    return version, start
