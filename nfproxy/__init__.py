"""nfproxy: a Kubernetes service proxy that programs the kernel's nftables."""

__version__ = "0.1.0"
