{{/*
What the schema cannot say: values that do not go together. All that is wrong is said at once,
each with what to do about it.
*/}}
{{- define "nfproxy.validate" -}}
{{- /* Helm takes null for "without the default", so the schema does not see it. */}}
{{- $needed := list "image" "existingConfigMap" "detectLocal" "prepare" "logging" "healthz" "metrics" "trial" "preflight" "updateStrategy" "dnsPolicy" "terminationGracePeriodSeconds" "serviceAccount" "rbac" }}
{{- range $name := $needed }}
{{- if not (hasKey $.Values $name) }}
{{- fail (printf "\n\n- %s: null is nothing; leave it out for the default" $name) }}
{{- end }}
{{- end }}
{{- $problems := concat
  (include "nfproxy.problems.apiServers" . | fromJsonArray)
  (include "nfproxy.problems.arguments" . | fromJsonArray)
  (include "nfproxy.problems.existingConfigMap" . | fromJsonArray)
  (include "nfproxy.problems.config" . | fromJsonArray)
  (include "nfproxy.problems.detectLocal" . | fromJsonArray)
  (include "nfproxy.problems.metrics" . | fromJsonArray)
  (include "nfproxy.problems.serviceAccount" . | fromJsonArray)
}}
{{- if $problems }}
{{- fail (printf "\n\n- %s\n" (join "\n- " $problems)) }}
{{- end }}
{{- end }}

{{- define "nfproxy.problems.apiServers" -}}
{{- $problems := list }}
{{- if not (or .Values.apiServers .Values.existingConfigMap.name) }}
{{- $problems = append $problems "apiServers is needed: the API server's URL as nodes reach it, for instance --set 'apiServers={https://192.0.2.10:6443}'; or existingConfigMap.name, to use kube-proxy's configuration" }}
{{- end }}
{{- /* Only a cluster answers; `helm template` sees no Service. */}}
{{- $clusterIPs := dig "spec" "clusterIPs" list (lookup "v1" "Service" "default" "kubernetes") }}
{{- range $url := .Values.apiServers }}
{{- $host := (urlParse $url).host }}
{{- $port := regexFind ":[0-9]+$" $host | trimPrefix ":" }}
{{- $name := regexReplaceAll ":[0-9]+$" $host "" | trimPrefix "[" | trimSuffix "]" }}
{{- if gt (int $port) 65535 }}
{{- $problems = append $problems (printf "apiServers: %s: ports end at 65535" $url) }}
{{- end }}
{{- if or (regexMatch "^kubernetes(\\.default(\\.svc(\\..*)?)?)?$" $name) (has $name $clusterIPs) }}
{{- $problems = append $problems (printf "apiServers: %s leads to the cluster IP of Service kubernetes, which nothing serves before nfproxy runs; give the address of a control plane node, or of a load balancer before several" $url) }}
{{- end }}
{{- end }}
{{- toJson $problems }}
{{- end }}

{{- define "nfproxy.problems.arguments" -}}
{{- $problems := list }}
{{- $set := dict "master" "apiServers" "v" "logging.verbosity" "logging-format" "logging.format" }}
{{- $refused := list "config" "hostname-override" "kubeconfig" "manifests" "proc" "init-only" "cleanup" "write-config-to" "version" "help" "h" }}
{{- range $argument := .Values.extraArgs }}
{{- $flag := regexReplaceAll "^--?([^=]*).*$" $argument "${1}" }}
{{- if hasKey $set $flag }}
{{- $problems = append $problems (printf "extraArgs: %s: use the value %s" $argument (get $set $flag)) }}
{{- else if has $flag $refused }}
{{- $problems = append $problems (printf "extraArgs: %s: not here; the chart sets it, or it makes something else of the daemon" $argument) }}
{{- end }}
{{- end }}
{{- toJson $problems }}
{{- end }}

{{- define "nfproxy.problems.existingConfigMap" -}}
{{- $problems := list }}
{{- with .Values.existingConfigMap.name }}
{{- $given := dict "clusterCIDRs" $.Values.clusterCIDRs "detectLocal" (compact (values $.Values.detectLocal)) "nodePortAddresses" $.Values.nodePortAddresses "config" $.Values.config }}
{{- range $name, $value := $given }}
{{- if $value }}
{{- $problems = append $problems (printf "%s is without effect beside existingConfigMap: set it in config.conf of ConfigMap %s, or do without existingConfigMap" $name $.Values.existingConfigMap.name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (not .Values.existingConfigMap.name) .Values.existingConfigMap.kubeconfig.name }}
{{- $problems = append $problems "existingConfigMap.kubeconfig is without effect unless existingConfigMap.name is given" }}
{{- end }}
{{- if ne (not .Values.existingConfigMap.kubeconfig.name) (not .Values.existingConfigMap.kubeconfig.mountPath) }}
{{- $problems = append $problems "existingConfigMap.kubeconfig needs both name and mountPath" }}
{{- end }}
{{- toJson $problems }}
{{- end }}

{{- define "nfproxy.problems.config" -}}
{{- $problems := list }}
{{- $instead := dict "apiVersion" "" "kind" "" "hostnameOverride" "" "mode" "" "clusterCIDR" "clusterCIDRs" "detectLocalMode" "detectLocal.mode" "detectLocal" "detectLocal" "nodePortAddresses" "nodePortAddresses" "healthzBindAddress" "healthz.port" "metricsBindAddress" "metrics.bindAddress" "logging" "logging" }}
{{- range $field, $value := .Values.config }}
{{- if hasKey $instead $field }}
{{- $name := get $instead $field }}
{{- $problems = append $problems (printf "config.%s: %s" $field (ternary (printf "use the value %s" $name) "the chart sets it" (ne $name ""))) }}
{{- end }}
{{- end }}
{{- if dig "clientConnection" "kubeconfig" "" (.Values.config | default dict) }}
{{- $problems = append $problems "config.clientConnection.kubeconfig: the chart sets it" }}
{{- end }}
{{- toJson $problems }}
{{- end }}

{{- define "nfproxy.problems.detectLocal" -}}
{{- $problems := list }}
{{- $mode := .Values.detectLocal.mode }}
{{- $needs := dict "BridgeInterface" "bridgeInterface" "InterfaceNamePrefix" "interfaceNamePrefix" }}
{{- range $of, $name := $needs }}
{{- $given := get $.Values.detectLocal $name }}
{{- if and (eq $mode $of) (not $given) }}
{{- $problems = append $problems (printf "detectLocal.%s is needed in mode %s" $name $of) }}
{{- else if and (ne $mode $of) $given }}
{{- $problems = append $problems (printf "detectLocal.%s is without effect unless detectLocal.mode is %s" $name $of) }}
{{- end }}
{{- end }}
{{- if and (eq $mode "ClusterCIDR") (not .Values.clusterCIDRs) }}
{{- $problems = append $problems "clusterCIDRs is needed in detectLocal.mode ClusterCIDR" }}
{{- else if and $mode (ne $mode "ClusterCIDR") .Values.clusterCIDRs }}
{{- $problems = append $problems (printf "clusterCIDRs is without effect in detectLocal.mode %s" $mode) }}
{{- end }}
{{- toJson $problems }}
{{- end }}

{{- define "nfproxy.problems.metrics" -}}
{{- $problems := list }}
{{- $address := .Values.metrics.bindAddress }}
{{- if and .Values.metrics.podMonitor.enabled (regexMatch "^(127\\.|\\[::1\\])" $address) }}
{{- $problems = append $problems (printf "metrics.bindAddress: Prometheus cannot reach %s, as metrics.podMonitor needs" $address) }}
{{- end }}
{{- if and (not .Values.existingConfigMap.name) (eq (include "nfproxy.metricsPort" .) (toString (int .Values.healthz.port))) }}
{{- $problems = append $problems (printf "metrics.bindAddress and healthz.port are both about port %d" (int .Values.healthz.port)) }}
{{- end }}
{{- if gt (include "nfproxy.metricsPort" . | int) 65535 }}
{{- $problems = append $problems (printf "metrics.bindAddress: %s: ports end at 65535" $address) }}
{{- end }}
{{- toJson $problems }}
{{- end }}

{{- define "nfproxy.problems.serviceAccount" -}}
{{- $problems := list }}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) }}
{{- $problems = append $problems "serviceAccount.name is needed when serviceAccount.create is false" }}
{{- end }}
{{- toJson $problems }}
{{- end }}
