"""Network namespaces, and the kernel in one of them."""

from support.kernel.fixtures import lab, real

__all__ = ["lab", "real"]
