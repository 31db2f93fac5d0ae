"""
Strict validation of objects, as the API server does it: shape here, meaning in `rules`.

A built-in kind's schema is the official client's model of it, made from Kubernetes' OpenAPI
document: unknown fields, wrong types and missing required fields are refused, and so are fields
without a value, which the API server would drop. The schemas of the Prometheus operator's kinds are
in `monitoring`, as far as we use them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jsonschema
import kubernetes.client.models as models
from pydantic import BaseModel, ValidationError
from support.manifests import monitoring, rules
from support.manifests.objects import Object, named

_MODELS: dict[tuple[str, str], type[BaseModel]] = {
    ("v1", "ConfigMap"): models.V1ConfigMap,
    ("v1", "Pod"): models.V1Pod,
    ("v1", "Service"): models.V1Service,
    ("v1", "ServiceAccount"): models.V1ServiceAccount,
    ("apps/v1", "DaemonSet"): models.V1DaemonSet,
    ("batch/v1", "Job"): models.V1Job,
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): models.V1ClusterRole,
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): models.V1ClusterRoleBinding,
    ("rbac.authorization.k8s.io/v1", "Role"): models.V1Role,
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): models.V1RoleBinding,
}


def check(objects: Iterable[Object], *elsewhere: tuple[str, str, str]) -> None:
    """
    Raise AssertionError with every problem that the objects of one deployment have.

    `elsewhere` names objects that they may refer to besides: (kind, namespace, name).
    """
    found = problems(objects, *elsewhere)
    assert not found, "\n".join(found)


def problems(objects: Iterable[Object], *elsewhere: tuple[str, str, str]) -> list[str]:
    """Return every problem, as "Kind name: field: what"; see `check`."""
    objects = list(objects)
    shape = [f"{_title(item)}: {text}" for item in objects for text in _shape(item)]
    if shape:  # what has another shape has no meaning
        return shape
    meaning = [f"{_title(item)}: {text}" for item in objects for text in rules.of_object(item)]
    return meaning + [f"{_title(item)}: {text}" for item, text in rules.of_all(objects, elsewhere)]


def _title(item: Any) -> str:
    kind, _, name = named(item) if isinstance(item, dict) else ("", "", "")
    return f"{kind} {name}".strip() or repr(item)


def _shape(item: Object) -> Iterator[str]:
    if not isinstance(item, dict):
        yield "is no object"
        return
    yield from _nulls(item, "")
    version, kind = item.get("apiVersion"), item.get("kind")
    if schema := monitoring.SCHEMAS.get((str(version), str(kind))):
        yield from _by_schema(item, schema)
    elif model := _MODELS.get((str(version), str(kind))):
        yield from _by_model(item, model)
    else:
        yield f"no schema is known of {version} {kind}"


def _nulls(value: Any, path: str) -> Iterator[str]:
    if value is None:
        yield f"{path.rstrip('.')}: has no value"
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _nulls(inner, f"{path}{key}.")


def _by_schema(item: Object, schema: Mapping[str, Any]) -> Iterator[str]:
    for error in jsonschema.Draft202012Validator(schema).iter_errors(item):
        yield f"{'.'.join(map(str, error.absolute_path))}: {error.message}"


def _by_model(item: Object, model: type[BaseModel]) -> Iterator[str]:
    try:
        made = model.model_validate(item, strict=True)
    except ValidationError as error:
        for found in error.errors():
            yield f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
    else:
        yield from _misspelt(made, item, "")


def _misspelt(made: BaseModel, data: Mapping[str, Any], path: str) -> Iterator[str]:
    """Find fields that only Python spells so: the models take host_network for hostNetwork."""
    spelt: Mapping[str, str] = type(made).attribute_map  # type: ignore[attr-defined]
    for key in data.keys() - spelt.values():
        yield f"{path}{key}: unknown field"
    for attribute, key in spelt.items():
        yield from _misspelt_within(getattr(made, attribute), data.get(key), f"{path}{key}.")


def _misspelt_within(made: Any, data: Any, path: str) -> Iterator[str]:
    if isinstance(made, BaseModel) and isinstance(data, dict):
        yield from _misspelt(made, data, path)
    elif isinstance(made, list) and isinstance(data, list):
        for index, (one, its) in enumerate(zip(made, data, strict=True)):
            yield from _misspelt_within(one, its, f"{path}{index}.")
    elif isinstance(made, dict) and isinstance(data, dict):
        for key, one in made.items():
            yield from _misspelt_within(one, data.get(key), f"{path}{key}.")
