"""
YAML as Kubernetes reads it: the rules of ``sigs.k8s.io/yaml``, with limits on hostile input.
"""
