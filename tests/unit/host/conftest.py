"""Network namespaces."""

from support.kernel.fixtures import lab

__all__ = ["lab"]
