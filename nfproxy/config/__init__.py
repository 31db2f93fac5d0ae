"""
The configuration of nfproxy: kube-proxy's flags and configuration file.

::

    flags (click) ──┐
                    ├─ load ─ KubeProxyConfiguration ─ node_config ─ NodeConfig
    file (YAML) ────┘              (effective)             │
    Node object ───────────────────────────────────────────┘

Each setting is declared once, as the default of the field that holds it
(:mod:`~nfproxy.config.setting`): in :mod:`~nfproxy.config.kubeproxy` with its blocks in
``componentbase`` and ``othermodes``, or in :mod:`~nfproxy.config.commandline` for a flag that the
file has no field for. Click options, decoding, defaults, validation, warnings and ``/flagz`` derive
from these declarations.

Everything here computes. The only file read is the configuration file, in
:func:`nfproxy.config.document.read_document`.
"""
