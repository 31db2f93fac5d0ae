"""
Credential plugins: programs that print a token or a client certificate.

Source: ``client.authentication.k8s.io`` ExecCredential.
"""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

from nfproxy.apiserver.kubeclient import ConfigException, ExecProvider
from nfproxy.errors import NfproxyError
from nfproxy.text import shorten

_PLUGIN_S = 30.0  # how long a request waits for one
_EARLY = datetime.timedelta(seconds=60)  # before credentials expire, new ones are fetched


class PluginError(NfproxyError):
    """A credential plugin gave no credentials. Another run may."""


class PluginRunner:
    """
    Runs credential plugins (``client.authentication.k8s.io``), one run at a time.

    A plugin that hangs is waited for by each request for a while, and not started again.
    """

    def __init__(self) -> None:
        self._running: asyncio.Task[dict[str, Any]] | None = None

    async def run(self, config: Any) -> dict[str, Any]:
        """Return the ``status`` of the credential. Raises PluginError."""
        command = shorten(str(config["command"]))
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(_run(config))
        try:
            return await asyncio.wait_for(asyncio.shield(self._running), _PLUGIN_S)
        except TimeoutError:
            said = f"has not ended after {_PLUGIN_S:.0f} s"
        except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
            said = str(error)
        raise PluginError(f"credential plugin {command}: {said}; run it by hand to see why")


async def _run(config: Any) -> dict[str, Any]:
    status = await ExecProvider(config).run()
    if not isinstance(status, dict):
        raise ConfigException("its status is not an object")
    if not status.get("token") and not (
        status.get("clientCertificateData") and status.get("clientKeyData")
    ):
        raise ConfigException("gave neither a token nor a client certificate with its key")
    return status


def expiry(text: object) -> datetime.datetime | None:
    """Return when credentials should be fetched anew, None where nothing is said."""
    try:
        moment = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)) - _EARLY
