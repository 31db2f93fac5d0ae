"""
The manifests of deploy/, rendered, and what can be said of rendered objects.

    kustomize   overlays and components, built        objects     finding one among them

::

    objects = overlay("kubeadm")
    daemonset = find(objects, "DaemonSet", "nfproxy")
"""

from support.manifests.kustomize import KUSTOMIZE, build, compose, overlay
from support.manifests.objects import Object, find, named

__all__ = ["KUSTOMIZE", "Object", "build", "compose", "find", "named", "overlay"]
