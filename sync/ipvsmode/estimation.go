package ipvsmode

import (
	"context"

	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
)

// uncounted returns why IPVS's counters of traffic stand still, whoever wanted that, or "" if they do not. A setting that the kernel
// lacks, or that cannot be read, stops nothing. Nil settings are those of a kernel that counts.
func uncounted(ctx context.Context, settings sysctl.Kernel) string {
	if settings == nil {
		return ""
	}
	values, _ := settings.Read(ctx, []string{ipvs.RunEstimation, ipvs.EstimationCPUs})
	cpus, selectable := values[ipvs.EstimationCPUs]
	switch {
	case values[ipvs.RunEstimation] == "0":
		return stillness("net.ipv4.vs.run_estimation is 0 (--ipvs-estimation=on sets it to 1)")
	case selectable && cpus == "":
		return stillness("net.ipv4.vs.est_cpulist is empty")
	}
	return ""
}

// stillness returns what an operator is told where counters would be shown.
func stillness(why string) string {
	return "New connections, packets and bytes are not counted on this node, as " + why + ". Active and closing connections are."
}
