package main

import (
	"fmt"
	"slices"

	"kube-ipvs/sync/loop"
)

func changeSection() section {
	var trials []trial
	for _, s := range changeable {
		trials = append(trials, trial{"change", s})
	}
	return section{name: "change", rounds: 31, make: inTurns, trials: trials, tell: tellChange}
}

func tellChange(r results) finding {
	f := finding{
		title: "One changed endpoint",
		words: `An endpoint of one Service is added and removed, again and again. Time and CPU time run from the write into the source, an
in-memory copy of the informers' stores; no API server is involved. The first answer is the new endpoint's to a pod that keeps
connecting to the cluster IP. Removing an endpoint takes one query for its connections. Against 200 Services.`,
	}
	cpu := plot{file: "bench-change", title: "CPU time of one changed endpoint", unit: "µs"}
	packet := plot{file: "bench-latency", title: "From the write to the first answer of a new endpoint", unit: "ms"}
	base := trial{"change", small}
	for _, s := range changeable {
		t, target := trial{"change", s}, ""
		if s == changeable[len(changeable)-1] {
			target = "at most 1.2 x that of 200"
		}
		f.add(r.against(s.String()+", CPU time", t, base, "cpu", microseconds, target))
		f.add(r.against(s.String()+", until the kernel has been told", t, base, "programmed", microseconds, target))
		f.add(r.against(s.String()+", until the first answer", t, base, "packet", milliseconds, target))
		f.add(row{what: s.String() + ": messages to IPVS, changes asked for, layers read", target: "the same for all",
			seen: fmt.Sprintf("%.1f, %.1f, %.0f", r.median(t, "messages"), r.median(t, "operations"), r.median(t, "reads"))})
		cpu.bar(thousands(s.Services)+" Services", r.median(t, "cpu")*1e6)
		packet.bar(thousands(s.Services)+" Services", r.median(t, "packet")*1e3)
	}
	f.plots = []plot{cpu, packet}
	return f
}

func idleSection() section {
	return section{name: "idle", rounds: 1, make: anew, trials: []trial{{"idle", medium}, {"idle", large}}, tell: tellIdle}
}

func tellIdle(r results) finding {
	f := finding{
		title: "Nothing changes",
		words: fmt.Sprintf(`For %v. The drift check runs every %v; the Go runtime's garbage collection, at least every two minutes, is included.
A check reads the settings, tests one member of each set, and counts rules and virtual servers: some thirty system calls, whatever
the number of Services. Listing all virtual servers and counting members takes at most a thousandth of the time.
IPVS itself estimates the rates of all virtual and real servers every two seconds, unless net.ipv4.vs.run_estimation is 0; that
was measured for as long.
Shares are of a CPU that carries out a thousand million instructions a second; they are what the machine is not idle, as kernels sample
the CPU time of processes at timer ticks.`, idleFor, loop.LookInterval),
	}
	for _, s := range []size{medium, large} {
		t := trial{"idle", s}
		add := func(what, figure string, unit func(float64) string, target string) {
			f.add(row{what: fmt.Sprintf("%v: %s", s, what), seen: r.figure(t, figure, unit), target: target})
		}
		add("the whole machine, kernel included, more of its CPU than before there was a proxy", "more", percent, "")
		add("of it, without IPVS's estimates", "own", percent, "less than 0.2 %")
		add("of it, IPVS's estimates", "estimates", percent, "")
		add("the whole machine before", "alone", percent, "")
		add("the process, as the kernel counts", "cpu", percent, "")
		add("of it, garbage collection", "garbage", percent, "")
		add("times a second that a thread of it was woken", "wakeups", plain, "the same for all")
		add("whole layers read", "reads", whole, "none")
		add("processes begun on the machine", "processes", whole, "none")
	}
	return f
}

// estimated are the sizes of tables whose estimates are measured.
var estimated = []size{{100, 10}, medium, large}

func stallSection() section {
	s := section{name: "stall", rounds: 3, make: inTurns, tell: tellStall}
	for _, size := range estimated {
		s.trials = append(s.trials, trial{"stall", size})
	}
	return s
}

func tellStall(r results) finding {
	f := finding{
		title: "IPVS's estimates",
		words: fmt.Sprintf(`Every two seconds IPVS estimates the rates of all virtual and real servers, whoever made them, unless net.ipv4.vs.run_estimation
is 0 (--ipvs-estimation=off). Before Linux 6.2 a timer does that, in which no process runs on its CPU. It walks all servers, and for each the
counters of all CPUs that the machine could have: here %.0f. Others are measured by %s.
A process that is always busy looks at the clock for %v, without and with estimates; told is the longest time in which it did not run, in the
best of three turns.`,
			r.median(trial{"stall", large}, "cpus"), "`inkernel -kernel icount -possible 64 bench -page instructions -only stall`", stallFor),
	}
	least := func(t trial, name string) float64 { return slices.Min(r.values(t, name)) }
	stall := func(s float64) string { return fmt.Sprintf("%.2f ms", s*1e3) }
	for _, s := range estimated {
		t := trial{"stall", s}
		with, without, servers := least(t, "with"), least(t, "without"), r.median(t, "servers")
		what := whole(servers) + " virtual and real servers: "
		f.add(row{what: what + "the longest stall", seen: stall(with), against: stall(without) + " without estimates"})
		f.add(row{what: what + "of it, for each of them", seen: fmt.Sprintf("%.0f ns", (with-without)*1e9/servers)})
	}
	return f
}

func packetsSection() section {
	return section{
		name: "packets", rounds: 5, make: inTurns, trials: []trial{{"packets", few}, {"packets", large}}, tell: tellPackets,
	}
}

func tellPackets(r results) finding {
	f := finding{
		title: "Packets",
		words: fmt.Sprintf(`A pod connects to a cluster IP, sends a request, gets the reply and closes, one connection after the other. Turns of
%v alternate with the same to a pod's address, %d of each in a round. Most of the time is system calls of both ends. The rate
is the median of the turns; the 99th percentile covers all connections of a round.`, askingFor, packetTurns),
	}
	p := plot{file: "bench-packets", title: "New TCP connections a second, one after the other", unit: "x"}
	p.bar("straight to the pod", 1)
	straight := func(t trial, name string, unit func(float64) string) string {
		return r.figure(t, name, unit) + " straight"
	}
	for _, s := range []size{few, large} {
		t := trial{"packets", s}
		f.add(row{what: s.String() + ", connections in a round", seen: r.figure(t, "count", whole), against: straight(t, "directCount", whole)})
		f.add(row{what: s.String() + ", connections a second", seen: r.figure(t, "rate", whole), against: straight(t, "direct", whole),
			ratio: r.figure(t, "share", plain)})
		f.add(row{what: s.String() + ", 99th percentile", seen: r.figure(t, "tail", milliseconds), against: straight(t, "directTail", milliseconds),
			ratio: r.figure(t, "tailRatio", plain)})
		p.bar("through kube-ipvs, "+thousands(s.Services)+" Services", r.median(t, "share"))
	}
	of := func(s size) string { return thousands(s.Services) + " Services" }
	f.add(r.against(fmt.Sprintf("share of the straight rate: %s against %s", of(large), of(few)), trial{"packets", large}, trial{"packets", few},
		"share", plain, "1: nothing grows"))
	f.add(r.against(fmt.Sprintf("99th percentile as multiple of the straight one: %s against %s", of(large), of(few)),
		trial{"packets", large}, trial{"packets", few}, "tailRatio", plain, "1: nothing grows"))
	f.plots = []plot{p}
	return f
}
