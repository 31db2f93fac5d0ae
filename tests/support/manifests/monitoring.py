"""
Schemas of the Prometheus operator's kinds, of the fields that are of use here.

Source: the CustomResourceDefinitions of prometheus-operator 0.93. Their other fields (credentials,
TLS, limits) are left out on purpose: what has to be added is looked up there first.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def _object(*required: str, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


_TEXT: Schema = {"type": "string", "minLength": 1}
_FLAG: Schema = {"type": "boolean"}
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_DURATION: Schema = {
    "type": "string",
    "pattern": r"^([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
    "minLength": 2,
}
_PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}

_SELECTOR = _object(
    matchLabels=_TEXTS,
    matchExpressions=_list(
        _object(
            "key",
            "operator",
            key=_TEXT,
            operator={"enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
            values=_list(_TEXT),
        )
    ),
)
_RELABELING = _object(
    action={
        "enum": [
            *("replace", "keep", "drop", "hashmod", "labelmap", "labeldrop", "labelkeep"),
            *("lowercase", "uppercase", "keepequal", "dropequal"),
        ]
    },
    regex=_TEXT,
    replacement={"type": "string"},
    separator=_TEXT,
    sourceLabels=_list(_TEXT),
    targetLabel=_TEXT,
)
_ENDPOINT: Schema = {
    "honorLabels": _FLAG,
    "honorTimestamps": _FLAG,
    "interval": _DURATION,
    "metricRelabelings": _list(_RELABELING),
    "path": _TEXT,
    "port": _TEXT,
    "relabelings": _list(_RELABELING),
    "scheme": {"enum": ["http", "https"]},
    "scrapeTimeout": _DURATION,
}
_MONITOR: Schema = {
    "attachMetadata": _object(node=_FLAG),
    "jobLabel": _TEXT,
    "namespaceSelector": _object(any=_FLAG, matchNames=_list(_TEXT)),
    "podTargetLabels": _list(_TEXT),
    "sampleLimit": {"type": "integer", "minimum": 1},
    "selector": _SELECTOR,
}
_RULE: Schema = {
    **_object(
        "expr",
        alert=_TEXT,
        annotations=_TEXTS,
        expr=_TEXT,
        **{"for": _DURATION},
        keep_firing_for=_DURATION,
        labels=_TEXTS,
        record=_TEXT,
    ),
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
}


def _kind(name: str, spec: Schema) -> Schema:
    return _object(
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        apiVersion={"const": "monitoring.coreos.com/v1"},
        kind={"const": name},
        metadata=_object(
            "name", "namespace", name=_TEXT, namespace=_TEXT, labels=_TEXTS, annotations=_TEXTS
        ),
        spec=spec,
    )


_KINDS = {
    "PodMonitor": _object(
        "selector",
        "podMetricsEndpoints",
        **_MONITOR,
        podMetricsEndpoints=_list(_object(**_ENDPOINT, portNumber=_PORT, filterRunning=_FLAG)),
    ),
    "ServiceMonitor": _object(
        "selector",
        "endpoints",
        **_MONITOR,
        targetLabels=_list(_TEXT),
        serviceDiscoveryRole={"enum": ["Endpoints", "EndpointSlice"]},
        endpoints=_list(_object(**_ENDPOINT)),
    ),
    "PrometheusRule": _object(
        "groups",
        groups=_list(
            _object(
                "name",
                "rules",
                name=_TEXT,
                interval=_DURATION,
                labels=_TEXTS,
                limit={"type": "integer", "minimum": 0},
                query_offset=_DURATION,
                rules=_list(_RULE),
            )
        ),
    ),
}

#: By apiVersion and kind.
SCHEMAS = {("monitoring.coreos.com/v1", name): _kind(name, spec) for name, spec in _KINDS.items()}
