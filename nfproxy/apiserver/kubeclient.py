"""
The parts of the official client that nfproxy uses, without the rest of it.

Importing ``kubernetes.aio`` runs the package's ``__init__`` modules, and these import every API
and model, pydantic and an OpenAPI schema's worth of classes: 55 MB of memory against 36 MB
with what is named here (of which 20 are Python with asyncio, and 13 are aiohttp). Everything
nfproxy needs (configuration, credentials, transport) is in modules that ask nothing of that.
So while they are imported, bare packages that only know their directory stand for the four
packages above them; afterwards the bare ones are taken away again, and whoever imports
``kubernetes`` later in this process gets the real thing. The modules themselves are the
client's own, unchanged.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_PACKAGES = ("kubernetes", "kubernetes.aio", "kubernetes.aio.client", "kubernetes.aio.utils")


def _bare(name: str, root: Path) -> ModuleType:
    """Return a package that runs nothing; `root` is the directory ``kubernetes`` is in."""
    module = ModuleType(name)
    module.__path__ = [str(root.joinpath(*name.split(".")))]
    module.__spec__ = importlib.util.spec_from_loader(name, loader=None, is_package=True)
    return module


def _load() -> dict[str, Any]:
    """Return the client's modules that are used, by the last part of their name."""
    spec = importlib.util.find_spec("kubernetes")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'kubernetes'", name="kubernetes")
    root = Path(spec.origin).parent.parent
    ours = {name: _bare(name, root) for name in _PACKAGES if name not in sys.modules}
    sys.modules.update(ours)
    try:
        client = sys.modules["kubernetes.aio.client"]
        configuration = importlib.import_module("kubernetes.aio.client.configuration")
        if client in ours.values():  # what the package itself would offer to kube_config
            client.__dict__.update(Configuration=configuration.Configuration, ApiClient=None)
        names = ("client.rest", "config.exec_provider", "config.incluster_config")
        modules = [importlib.import_module(f"kubernetes.aio.{name}") for name in names]
        modules.append(importlib.import_module("kubernetes.aio.config.kube_config"))
        modules.append(importlib.import_module("kubernetes.aio.config.config_exception"))
    finally:
        for name in ours:
            del sys.modules[name]
    return {module.__name__.rpartition(".")[2]: module for module in (configuration, *modules)}


_modules = _load()

Configuration: Any = _modules["configuration"].Configuration
RESTClientObject: Any = _modules["rest"].RESTClientObject
ExecProvider: Any = _modules["exec_provider"].ExecProvider
InClusterConfigLoader: Any = _modules["incluster_config"].InClusterConfigLoader
ConfigNode: Any = _modules["kube_config"].ConfigNode
KubeConfigLoader: Any = _modules["kube_config"].KubeConfigLoader
ConfigException: Any = _modules["config_exception"].ConfigException
