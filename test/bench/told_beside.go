package main

import "fmt"

// besides are the proxies that are compared at each size: kube-proxy's ipvs mode where it finishes in some minutes.
var besides = []struct {
	size    size
	proxies []string
}{
	{medium, []string{ours, ipvsMode, iptablesMode}},
	{large, []string{ours, iptablesMode}},
}

func besideSection() section {
	s := section{name: "beside", rounds: 1, make: anew, tell: tellBeside}
	for _, b := range besides {
		for _, proxy := range b.proxies {
			s.trials = append(s.trials, trial{proxy, b.size})
		}
	}
	return s
}

func tellBeside(r results) finding {
	f := finding{
		title: "Beside kube-proxy",
		words: fmt.Sprintf(`Each proxy watches an API server, the small one of test/kubeproxy, which serves JSON only and has all Services from the start.
First programming runs from the start of the process until a health-check node port of the last Service answers, or
kube-ipvs's metrics report that nothing is pending. "From all being read" is the time in syncs, by each program's metric
kubeproxy_sync_proxy_rules_duration_seconds; of two families, the slower one's.
A changed endpoint runs from the write into the API server until the new endpoint answers a pod, as many times as fit into
%v. kube-proxy's minimum sync period is 0. Its ipvs mode is measured with at most %s Services.
Memory is the process's VmRSS and VmHWM after first programming and after all changes; the live heap is taken after a garbage
collection. "Against" is kube-ipvs; a ratio of 2 is twice as long, or as much.`, changing, thousands(medium.Services)),
	}
	change := plot{file: "bench-beside", title: "One changed endpoint of " + thousands(medium.Services) + " Services, until it answers", unit: "s"}
	for _, b := range besides {
		for _, proxy := range b.proxies {
			r.beside(&f, trial{proxy, b.size})
		}
	}
	for _, proxy := range besides[0].proxies {
		change.bar(nameOf(proxy), r.median(trial{proxy, besides[0].size}, "packet"))
	}
	f.plots = []plot{change}
	return f
}

func nameOf(proxy string) string {
	if proxy == ours {
		return ours
	}
	return "kube-proxy, " + proxy + " mode"
}

// beside tells of one proxy.
func (r results) beside(f *finding, t trial) {
	base, speed, memory, each := trial{ours, t.size}, "", "", ""
	switch t.part {
	case ours:
		memory, each = "below kube-proxy's", "less than 1 KiB"
	case ipvsMode:
		speed = "at least 50 x kube-ipvs's"
	}
	add := func(what, figure string, unit func(float64) string, target string) {
		line := r.against(fmt.Sprintf("%v, %s: %s", t.size, nameOf(t.part), what), t, base, figure, unit, target)
		if t == base {
			line.against, line.ratio = "", ""
		}
		f.add(line)
	}
	add("first programming, from the start of the process", "seconds", seconds, "")
	add("first programming, from all being read", "synced", seconds, speed)
	add(fmt.Sprintf("one changed endpoint, of %.0f", r.median(t, "changes")), "packet", milliseconds, "")
	f.add(row{what: fmt.Sprintf("%v, %s: new connections a second", t.size, nameOf(t.part)), seen: r.figure(t, "rate", whole),
		against: r.figure(t, "direct", whole) + " straight", ratio: r.figure(t, "share", plain)})
	add("resident after first programming", "resident", mebibytes, memory)
	add("resident after the changes", "residentLater", mebibytes, memory)
	add("resident at most until then", "peak", mebibytes, memory)
	add("live heap", "heap", mebibytes, "")
	add("live heap per endpoint", "each", bytes, each)
}
