"""
What is on a cluster that has kube-proxy: its DaemonSet and its ConfigMaps.

Source: kubeadm 1.36 (phases/addons/proxy/manifests.go), and what Amazon EKS 1.34 shows.
"""

from __future__ import annotations

import yaml
from support.manifests.objects import Object

_CONFIG = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: KUBECONFIG, qps: 0}
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
configSyncPeriod: 0s
conntrack:
  {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null,
  tcpEstablishedTimeout: null, udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s,
  syncPeriod: 0s}
ipvs:
  {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, syncPeriod: 0s,
  tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
logging: {flushFrequency: 0, verbosity: 0}
metricsBindAddress: ""
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
"""

_KUBECONFIG = """
apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    server: https://192.0.2.1:6443
  name: default
contexts:
- context: {cluster: default, namespace: default, user: default}
  name: default
current-context: default
users:
- name: default
  user: {tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token}
"""

_DAEMON_SET = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-proxy, namespace: kube-system, labels: {k8s-app: kube-proxy}}
spec:
  selector: {matchLabels: {k8s-app: kube-proxy}}
  updateStrategy: {type: RollingUpdate}
  template:
    metadata: {labels: {k8s-app: kube-proxy}}
    spec:
      priorityClassName: system-node-critical
      hostNetwork: true
      serviceAccountName: kube-proxy
      tolerations: [{operator: Exists}]
      nodeSelector: {kubernetes.io/os: linux}
      containers:
      - name: kube-proxy
        image: registry.k8s.io/kube-proxy:v1.36.2
        imagePullPolicy: IfNotPresent
        command:
        - /usr/local/bin/kube-proxy
        - --config=/var/lib/kube-proxy/config.conf
        - --hostname-override=$(NODE_NAME)
        securityContext: {privileged: true}
        volumeMounts:
        - {name: kube-proxy, mountPath: /var/lib/kube-proxy}
        - {name: xtables-lock, mountPath: /run/xtables.lock, readOnly: false}
        - {name: lib-modules, mountPath: /lib/modules, readOnly: true}
        env:
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
      volumes:
      - {name: kube-proxy, configMap: {name: kube-proxy}}
      - {name: xtables-lock, hostPath: {path: /run/xtables.lock, type: FileOrCreate}}
      - {name: lib-modules, hostPath: {path: /lib/modules}}
"""

#: What overlays may refer to without making it: see `schema.check`.
ELSEWHERE = (
    ("ConfigMap", "kube-system", "kube-proxy"),
    ("ConfigMap", "kube-system", "kube-proxy-config"),
    ("ServiceAccount", "kube-system", "kube-proxy"),
)


def daemon_set() -> Object:
    """Return kube-proxy's DaemonSet, as kubeadm makes it."""
    made: Object = yaml.safe_load(_DAEMON_SET)
    return made


def config_maps(cluster: str) -> list[Object]:
    """Return kube-proxy's ConfigMaps on a cluster of "kubeadm" or "eks"."""
    if cluster == "kubeadm":
        config = _CONFIG.replace("KUBECONFIG", "/var/lib/kube-proxy/kubeconfig.conf")
        return [_config_map("kube-proxy", {"config.conf": config, "kubeconfig.conf": _KUBECONFIG})]
    config = _CONFIG.replace("KUBECONFIG", "/var/lib/kube-proxy/kubeconfig")
    return [
        _config_map("kube-proxy", {"kubeconfig": _KUBECONFIG}),
        _config_map("kube-proxy-config", {"config": config}),
    ]


def _config_map(name: str, data: dict[str, str]) -> Object:
    metadata = {"name": name, "namespace": "kube-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
