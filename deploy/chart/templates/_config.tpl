{{/* The KubeProxyConfiguration: the chart's own fields, and those of the value config. */}}
{{- define "nfproxy.config" -}}
{{- $own := dict
  "apiVersion" "kubeproxy.config.k8s.io/v1alpha1"
  "kind" "KubeProxyConfiguration"
  "mode" "nftables"
  "clusterCIDR" (join "," .Values.clusterCIDRs)
  "nodePortAddresses" (.Values.nodePortAddresses | default list)
  "clientConnection" (dict "kubeconfig" "/etc/nfproxy/kubeconfig.conf")
}}
{{- with .Values.detectLocal.mode }}
{{- $_ := set $own "detectLocalMode" . }}
{{- end }}
{{- with .Values.detectLocal.bridgeInterface }}
{{- $_ := set $own "detectLocal" (dict "bridgeInterface" .) }}
{{- end }}
{{- with .Values.detectLocal.interfaceNamePrefix }}
{{- $_ := set $own "detectLocal" (dict "interfaceNamePrefix" .) }}
{{- end }}
{{- if ne (int .Values.healthz.port) 10256 }}
{{- $_ := set $own "healthzBindAddress" (printf "0.0.0.0:%d" (int .Values.healthz.port)) }}
{{- end }}
{{- with include "nfproxy.metricsBindAddress" . }}
{{- $_ := set $own "metricsBindAddress" . }}
{{- end }}
{{- toYaml (mergeOverwrite (deepCopy (.Values.config | default dict)) $own) }}
{{- end }}

{{/* Address and credentials of the API server; of several addresses the rest are flags. */}}
{{- define "nfproxy.kubeconfig" -}}
apiVersion: v1
kind: Config
clusters:
  - name: default
    cluster:
      server: {{ first .Values.apiServers | quote }}
      certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
users:
  - name: default
    user:
      tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
contexts:
  - name: default
    context:
      cluster: default
      user: default
current-context: default
{{- end }}
