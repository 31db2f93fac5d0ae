"""
The manifests of deploy/, rendered, and what can be said of rendered objects.

    kustomize    overlays and components, built     objects    finding one among them
    schema       strict validation, whatever rendered the objects
    rules, podrules, names, monitoring              what it knows
    alerts       Prometheus' judgement              dashboards queries of Grafana's

::

    objects = overlay("kubeadm")
    check(objects, ("ConfigMap", "kube-system", "kube-proxy"))
    daemonset = find(objects, "DaemonSet", "nfproxy")
"""

from support.manifests.kustomize import KUSTOMIZE, build, compose, overlay
from support.manifests.objects import Object, find, named
from support.manifests.schema import check, problems

__all__ = [
    "KUSTOMIZE",
    "Object",
    "build",
    "check",
    "compose",
    "find",
    "named",
    "overlay",
    "problems",
]
