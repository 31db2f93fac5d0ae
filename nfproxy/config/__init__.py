"""
What the person who runs nfproxy asked for: kube-proxy's flags and configuration file.

::

    flags (click) ──┐
                    ├─ load ─ KubeProxyConfiguration ─ node_config ─ NodeConfig
    file (YAML) ────┘              (effective)             │
    Node object ───────────────────────────────────────────┘

One table, :mod:`nfproxy.config.settings`, says for every setting of kube-proxy which flag
and which field carry it, what values it takes and what nfproxy does with it; options,
decoding, warnings, validation and the reference page are derived from it.

Everything here computes. The one file read is the configuration file, in
:func:`nfproxy.config.document.read_document`.
"""
