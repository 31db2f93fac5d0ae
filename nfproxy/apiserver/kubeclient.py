"""
The parts of the official client that nfproxy uses, without the rest of it.

``import kubernetes.aio`` runs the package's ``__init__`` modules, which import every API and model,
pydantic and the classes of an OpenAPI schema: 55 MB of memory, against 36 MB with the parts named
here (of which 20 are Python with asyncio, and 13 are aiohttp). The parts do not need the rest. So
while they are imported, empty packages that only know their directory take the place of the four
packages above them; afterwards the empty ones go, and a later ``import kubernetes`` in this process
gets the real packages. The modules themselves are the client's own, unchanged.

That uses the client's inner layout, so its version has an upper bound in ``pyproject.toml``. If
another version has another layout, the real packages are imported instead; if a name is gone,
importing this module raises MissingFeatureError.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from nfproxy.errors import MissingFeatureError

_PACKAGES = ("kubernetes", "kubernetes.aio", "kubernetes.aio.client", "kubernetes.aio.utils")

# Name here → module in kubernetes.aio. The configuration comes first: kube_config uses it.
_MODULES = {
    "Configuration": "client.configuration",
    "RESTClientObject": "client.rest",
    "InClusterConfigLoader": "config.incluster_config",
    "ConfigNode": "config.kube_config",
    "KubeConfigLoader": "config.kube_config",
    "ConfigException": "config.config_exception",
}
# Methods that nfproxy overrides: without them, an override would silently do nothing.
_OVERRIDDEN = {
    "RESTClientObject": ("_create_connector", "_create_pool_manager"),
    "KubeConfigLoader": ("load_from_exec_plugin",),
}


@contextlib.contextmanager
def _empty_packages() -> Iterator[None]:
    """Let packages that run nothing stand for those that are not imported yet."""
    spec = importlib.util.find_spec("kubernetes")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'kubernetes'", name="kubernetes")
    root = Path(spec.origin).parent.parent
    empty = {name: _empty(name, root) for name in _PACKAGES if name not in sys.modules}
    sys.modules.update(empty)
    try:
        if "kubernetes.aio.client" in empty:
            configuration = importlib.import_module("kubernetes.aio.client.configuration")
            # The real package offers these to kube_config.
            offered = {"Configuration": configuration.Configuration, "ApiClient": None}
            empty["kubernetes.aio.client"].__dict__.update(offered)
        yield
    finally:
        for name in empty:
            del sys.modules[name]


def _empty(name: str, root: Path) -> ModuleType:
    """Return an empty package; `root` is the directory that contains ``kubernetes``."""
    package = ModuleType(name)
    package.__path__ = [str(root.joinpath(*name.split(".")))]
    package.__spec__ = importlib.util.spec_from_loader(name, loader=None, is_package=True)
    return package


def _import() -> dict[str, Any]:
    """Import the names that nfproxy uses."""
    return {
        name: getattr(importlib.import_module(f"kubernetes.aio.{module}"), name)
        for name, module in _MODULES.items()
    }


@contextlib.contextmanager
def _without_default_certificates() -> Iterator[None]:
    """
    Let aiohttp make its default TLS contexts without the system's certificates.

    It makes two as it is imported, and reading certificates takes an eighth of the time of all
    imports. Every connection here has a context of its own (`Transport`, `check_tls`). With a
    default one, aiohttp would now refuse every server.
    """
    own = ssl.SSLContext.load_default_certs
    ssl.SSLContext.load_default_certs = _load_nothing  # type: ignore[assignment, method-assign]
    ssl.SSLContext.set_default_verify_paths = _load_nothing  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        ssl.SSLContext.load_default_certs = own  # type: ignore[method-assign]
        del ssl.SSLContext.set_default_verify_paths  # the inherited one is in force again


def _load_nothing(context: ssl.SSLContext, *_: object) -> None:
    """Stand for a method of a TLS context that reads certificates."""


def _load() -> dict[str, Any]:
    """Return the classes by name. Raises MissingFeatureError."""
    try:
        with _without_default_certificates():
            importlib.import_module("aiohttp")
        try:
            with _empty_packages():
                names = _import()
        except (ImportError, AttributeError):
            names = _import()  # takes 20 MB more
        for name, methods in _OVERRIDDEN.items():
            for method in methods:
                getattr(names[name], method)
    except (ImportError, AttributeError) as error:
        from importlib.metadata import version

        raise MissingFeatureError(
            f"Python package kubernetes {version('kubernetes')}: {error}",
            "install a version that nfproxy was tested with: pip install 'kubernetes>=37,<38'",
        ) from error
    return names


_names = _load()

Configuration: Any = _names["Configuration"]
RESTClientObject: Any = _names["RESTClientObject"]
InClusterConfigLoader: Any = _names["InClusterConfigLoader"]
ConfigNode: Any = _names["ConfigNode"]
KubeConfigLoader: Any = _names["KubeConfigLoader"]
ConfigException: Any = _names["ConfigException"]
