package ipvs

// The kernel settings of estimation, below /proc/sys. IPVS counts on each CPU by itself. Every two seconds it estimates the rates of each
// virtual and real server, and only then sums up what all CPUs counted: without estimation Totals and CountReals return what they
// returned before (ip_vs_copy_stats in net/netfilter/ipvs/ip_vs_ctl.c reads what ip_vs_est.c has summed up). Nor do the sums get lost: with
// the next estimation they are complete. Active and inactive connections are counted in another way.
const (
	// RunEstimation is "0" if nothing is estimated. Linux has it since 5.17.
	RunEstimation = "net/ipv4/vs/run_estimation"
	// EstimationCPUs lists the CPUs that estimate; if it is empty, nothing is estimated. Linux has it since 6.2, as threads estimate
	// there and no timer.
	EstimationCPUs = "net/ipv4/vs/est_cpulist"
)
