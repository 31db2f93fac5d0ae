"""
What the metrics port tells: kube-proxy's metrics under kube-proxy's names, and nfproxy's own.

``kubeproxy`` has those dashboards for kube-proxy rely on, ``component`` what every Kubernetes
component tells (build, feature gates, API requests, process), ``own`` what only nfproxy has,
``connections`` those by Service, which have a page of their own; ``text`` writes it all down.
Methods are named by what happened; which series that changes is decided here alone. A registry
belongs to its Metrics: nothing is global.

Metrics may be told of things, and read, in any thread. A call costs some microseconds.
"""

from nfproxy.metrics.own import ResyncReason
from nfproxy.metrics.set import Metrics

__all__ = ["Metrics", "ResyncReason"]
