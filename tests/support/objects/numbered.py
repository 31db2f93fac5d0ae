"""An object cache whose Services have numbers, and the objects of the benches."""

from __future__ import annotations

from typing import Any

import msgspec
from bench import objects

from nfproxy.kube.cache import ObjectCache
from nfproxy.kube.identity import Kind


class NumberedServices:
    """Puts the benches' Services and their slices into a cache, changes and removes them."""

    def __init__(self, cache: ObjectCache) -> None:
        self.cache = cache

    def service(self, number: int, *, exists: bool = True, **spec: Any) -> None:
        """Make, change or remove a Service."""
        value = msgspec.json.decode(objects.service_json(number))
        value["status"] = spec.pop("status", {})
        value["spec"] |= spec
        do = self.cache.put if exists else self.cache.remove
        do(Kind.SERVICE, msgspec.json.encode(value))

    def slice(self, number: int, endpoints: int, *, first: int = 0, exists: bool = True) -> None:
        """Make, change or remove a Service's slice."""
        addresses = [objects.spare_endpoint(first + index) for index in range(endpoints)]
        do = self.cache.put if exists else self.cache.remove
        do(Kind.ENDPOINT_SLICE, objects.slice_json(number, addresses))
