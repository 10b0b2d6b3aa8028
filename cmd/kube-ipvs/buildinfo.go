package main

import (
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// kubernetesBuildInfo returns Kubernetes's metric of its version, with that of the Kubernetes whose libraries these are. The libraries
// have a metric of that name, whose values only a build of Kubernetes itself fills in.
func kubernetesBuildInfo() prometheus.Collector {
	version := kubernetesVersion()
	major, minor := "", ""
	if parts := strings.Split(strings.TrimPrefix(version, "v"), "."); len(parts) == 3 {
		major, minor = parts[0], parts[1]
	}
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kubernetes_build_info", Help: "[BETA] 1, with the version of the Kubernetes whose libraries these are.",
	}, []string{"major", "minor", "git_version", "git_commit", "git_tree_state", "build_date", "go_version", "compiler", "platform"})
	g.WithLabelValues(major, minor, version, "", "", "", runtime.Version(), runtime.Compiler, runtime.GOOS+"/"+runtime.GOARCH).Set(1)
	return g
}

// kubernetesVersion returns the version of Kubernetes whose libraries these are, such as "v1.37.2", or "": its library
// v0.37.2 is that of v1.37.2.
func kubernetesVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == "k8s.io/component-base" {
			return "v1" + strings.TrimPrefix(m.Version, "v0")
		}
	}
	return ""
}
