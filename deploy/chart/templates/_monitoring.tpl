{{/* Where metrics are served, "" where the default will do. */}}
{{- define "nfproxy.metricsBindAddress" -}}
{{ .Values.metrics.bindAddress | default (ternary "0.0.0.0:10249" "" .Values.metrics.podMonitor.enabled) }}
{{- end }}

{{- define "nfproxy.metricsPort" -}}
{{ regexFind "[0-9]+$" (include "nfproxy.metricsBindAddress" . | default ":10249") }}
{{- end }}

{{/*
An object of deploy/kustomize/components/monitoring as one of the release: (list ROOT FILE LABELS),
as YAML.
*/}}
{{- define "nfproxy.monitoringObject" -}}
{{- $root := index . 0 }}
{{- $object := $root.Files.Get (index . 1) | fromYaml }}
{{- $own := include "nfproxy.labels" $root | fromYaml }}
{{- $_ := set $object.metadata "namespace" $root.Release.Namespace }}
{{- $_ := set $object.metadata "labels" (merge dict (index . 2) $own) }}
{{- toYaml $object }}
{{- end }}
