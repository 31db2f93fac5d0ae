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

{{/* Flags that every container has. */}}
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

{{/* Nothing where the kubeconfig of the chart's own ConfigMap says it all. */}}
{{- define "nfproxy.apiServersFlag" -}}
{{- if or .Values.existingConfigMap.name (gt (len .Values.apiServers) 1) }}
{{- with .Values.apiServers -}}
- --master={{ join "," . }}
{{- end }}
{{- end }}
{{- end }}

{{/* What a pod has beside its containers. */}}
{{- define "nfproxy.podSettings" -}}
serviceAccountName: {{ include "nfproxy.serviceAccountName" . }}
automountServiceAccountToken: true
enableServiceLinks: false
hostNetwork: true
dnsPolicy: {{ .Values.dnsPolicy }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
nodeSelector:
  {{- include "nfproxy.nodeSelector" . | nindent 2 }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationGracePeriodSeconds: {{ int .Values.terminationGracePeriodSeconds }}
securityContext:
  runAsUser: 0 # capabilities of another user do not survive exec
  runAsGroup: 0
  seccompProfile:
    type: RuntimeDefault
  {{- with .Values.seLinuxOptions }}
  seLinuxOptions:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "nfproxy.configVolumes" -}}
- name: config
  configMap:
    name: {{ include "nfproxy.configMapName" . }}
{{- with .Values.existingConfigMap.kubeconfig.name }}
- name: kubeconfig
  configMap:
    name: {{ . }}
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

{{- define "nfproxy.imageAndNode" -}}
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
{{- end }}

{{/* What both containers have in common. */}}
{{- define "nfproxy.container" -}}
{{ include "nfproxy.imageAndNode" . }}
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
