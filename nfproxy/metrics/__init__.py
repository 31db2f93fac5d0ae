"""
The metrics of nfproxy: kube-proxy's under kube-proxy's names, and its own.

``kubeproxy`` has the metrics that dashboards for kube-proxy read, ``component`` those of every
Kubernetes component (build, feature gates, API requests, health checks), ``own`` those that only
nfproxy has, ``localhost`` those of node ports on loopback addresses, ``kernelcounts`` what the
kernel counts of session affinity and of refused connections. ``registry`` puts them together in one
class, ``prometheus`` writes them.

A method is named by what happened; only here is it decided which series that changes. A registry
belongs to one Metrics object: nothing is global.

Methods may be called in any thread. A call takes some microseconds.
"""

from nfproxy.metrics.registry import Metrics

__all__ = ["Metrics"]
