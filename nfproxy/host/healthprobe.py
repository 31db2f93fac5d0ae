"""Asks a health check node port of this node, as load balancers do."""

from __future__ import annotations

import json

from nfproxy.insight.nodefacts import HealthAnswer
from nfproxy.model.service import ObjectName

_TIMEOUT_S = 0.5
_ANSWER_BYTES = 4096


def ask_health_check(host: str, port: int, service: ObjectName) -> HealthAnswer:
    """Return what a health check node port answers, and whether it speaks of that Service."""
    # Imported here: few Services have such a port.
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        named = json.loads(answer.read(_ANSWER_BYTES))["service"]
        return HealthAnswer(answer.status, named == service._asdict())
    except (ValueError, TypeError, KeyError):
        return HealthAnswer(answer.status)
    except (OSError, http.client.HTTPException):
        return HealthAnswer()
    finally:
        connection.close()
