"""An API server under test, whichever it is: only what a real one can do, over HTTP."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from support.apiserver.client import Answer, Client, Watch
from support.apiserver.resources import RESOURCES


class Subject:
    """An API server under test, and a namespace in it that belongs to one test."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace

    def path(self, resource: str, name: str = "") -> str:
        """Return the path of a list in the namespace, or of an object."""
        kind = RESOURCES[resource]
        return kind.path(self.namespace if kind.namespaced else "", name)

    def create(self, resource: str, name: str, **content: Any) -> dict[str, Any]:
        """Create an object, and return it; `labels` are those of its metadata."""
        metadata = {"name": name, "labels": content.pop("labels", {})}
        answer = self.client.post(self.path(resource), {"metadata": metadata, **content})
        assert answer.code == 201, answer
        made: dict[str, Any] = answer.content
        return made

    def slice(self, name: str, *addresses: str, **labels: str) -> dict[str, Any]:
        """Create an EndpointSlice."""
        return self.create("endpointslices", name, labels=labels, **slice_content(*addresses))

    def merge(self, resource: str, name: str, **change: Any) -> dict[str, Any]:
        """Change an object, and return it."""
        answer = self.client.merge(self.path(resource, name), change)
        assert answer.code == 200, answer
        changed: dict[str, Any] = answer.content
        return changed

    def delete(self, resource: str, name: str) -> Answer:
        """Delete an object."""
        return self.client.delete(self.path(resource, name))

    def answer_list(self, resource: str, **query: object) -> Answer:
        """List the namespace's objects."""
        return self.client.get(self.path(resource), **query)

    def names(self, resource: str, **query: object) -> list[str]:
        """Return the names of what a list holds."""
        return [
            item["metadata"]["name"]
            for item in self.answer_list(resource, **query).content["items"]
        ]

    def version(self) -> str:
        """Return the current version."""
        found: str = self.answer_list("endpointslices").content["metadata"]["resourceVersion"]
        return found

    def watch(self, resource: str, **query: object) -> AbstractContextManager[Watch]:
        """Open a watch on the namespace's objects."""
        return self.client.watch(self.path(resource), **query)


def slice_content(*addresses: str) -> dict[str, Any]:
    """Return the rest of an EndpointSlice."""
    endpoints = [{"addresses": [address]} for address in addresses or ["10.244.1.11"]]
    return {"addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "", "port": 8080}]}


def kinds_and_names(watch: Watch, count: int) -> list[tuple[str, str]]:
    """Return the next events of a watch as pairs: ("ADDED", name)."""
    return [
        (event["type"], event["object"]["metadata"].get("name", "")) for event in watch.take(count)
    ]
