{{/* The values, with those of the platform where none are given. */}}
{{- define "kube-ipvs.values" -}}
{{- $platform := get (.Files.Get "platforms.yaml" | fromYaml) .Values.platform -}}
{{- $values := merge (deepCopy .Values.AsMap) $platform -}}
{{- if not (or $values.configMap $values.kubeletKubeconfig $values.apiServer.host) -}}
{{- fail "kube-ipvs makes cluster IPs work and cannot use one to reach the API server: set apiServer.host, or kubeletKubeconfig, or configMap to kube-proxy's" -}}
{{- end -}}
{{- toYaml $values -}}
{{- end -}}

{{- define "kube-ipvs.labels" -}}
app.kubernetes.io/name: kube-ipvs
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "kube-ipvs.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
