{{/*
One proxy serves a node, so nothing is named after the release: a second release is refused for
the objects of the first.
*/}}
{{- define "nfproxy.name" -}}
nfproxy
{{- end }}

{{/* What selects the pods; it can never change. */}}
{{- define "nfproxy.selectorLabels" -}}
app.kubernetes.io/name: nfproxy
{{- end }}

{{/* On every object. */}}
{{- define "nfproxy.labels" -}}
{{ include "nfproxy.selectorLabels" . }}
{{ include "nfproxy.releaseLabels" . }}
{{- end }}

{{/* Whose an object is. */}}
{{- define "nfproxy.releaseLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "nfproxy.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "nfproxy.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default "nfproxy" }}
{{- end }}

{{- define "nfproxy.configMapName" -}}
{{ .Values.existingConfigMap.name | default "nfproxy" }}
{{- end }}

{{/* Where the configuration is, in a container. */}}
{{- define "nfproxy.configFile" -}}
{{- with .Values.existingConfigMap -}}
{{ if .name }}{{ .mountPath }}/{{ .key }}{{ else }}/etc/nfproxy/config.conf{{ end }}
{{- end }}
{{- end }}

{{/* The labels that nodes need to have. */}}
{{- define "nfproxy.nodeSelector" -}}
{{- $own := .Values.trial.enabled | ternary (dict "nfproxy.io/proxy" "nfproxy") dict }}
{{- toYaml (merge $own (.Values.nodeSelector | default dict)) }}
{{- end }}

{{/* Flags that both containers have. */}}
{{- define "nfproxy.flags" -}}
- --config={{ include "nfproxy.configFile" . }}
- --hostname-override=$(NODE_NAME)
{{- with .Values.logging }}
{{- if ne .format "text" }}
- --logging-format={{ .format }}
{{- end }}
{{- /* A number may be of a type of which 0 is true, or printed as 1e+06. */}}
{{- if gt (int64 .verbosity) 0 }}
- --v={{ int64 .verbosity }}
{{- end }}
{{- end }}
{{- end }}

{{- define "nfproxy.configMounts" -}}
- name: config
  mountPath: {{ include "nfproxy.configFile" . | dir | quote }}
  readOnly: true
{{- with .Values.existingConfigMap.kubeconfig }}
{{- if .name }}
- name: kubeconfig
  mountPath: {{ .mountPath | quote }}
  readOnly: true
{{- end }}
{{- end }}
{{- end }}

{{/* What both containers have in common. */}}
{{- define "nfproxy.container" -}}
image: {{ include "nfproxy.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - name: NODE_NAME
    valueFrom:
      fieldRef:
        fieldPath: spec.nodeName
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
securityContext:
  privileged: false
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
    add: [NET_ADMIN]
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  {{- include "nfproxy.configMounts" . | nindent 2 }}
{{- end }}
