"""
YAML as Kubernetes reads it: the rules of ``sigs.k8s.io/yaml``, with limits on hostile input.

The only YAML reader and writer: manifests, kubeconfig and configuration use it.
"""

from nfproxy.yaml.reader import decode_text, documents, first_document
from nfproxy.yaml.values import Document, Limits
from nfproxy.yaml.writer import dump

__all__ = ["Document", "Limits", "decode_text", "documents", "dump", "first_document"]
