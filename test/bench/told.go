package main

import "fmt"

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
		words: `An endpoint of one Service comes and goes, again and again. Time and CPU time run from the write into the source,
which is in memory and holds what the informers hold; an API server is not in it. The first answer is that of the new endpoint to
a pod that connects to the cluster IP again and again. An endpoint that goes is asked for its connections with one
question. Against 200 Services.`,
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
		f.add(row{what: s.String() + ": messages to IPVS, changes asked for, layers read",
			seen: fmt.Sprintf("%.1f, %.1f, %.0f", r.median(t, "messages"), r.median(t, "operations"), r.median(t, "reads")), target: "the same for all"})
		cpu.bar(thousands(s.Services)+" Services", r.median(t, "cpu")*1e6)
		packet.bar(thousands(s.Services)+" Services", r.median(t, "packet")*1e3)
	}
	f.plots = []plot{cpu, packet}
	return f
}

func idleSection() section {
	return section{name: "idle", rounds: 1, make: anew, trials: []trial{{"idle", large}}, tell: tellIdle}
}

func tellIdle(r results) finding {
	t := trial{"idle", large}
	f := finding{
		title: "Nothing changes",
		words: fmt.Sprintf(`For %v, with %v. The look at what the kernel tells nobody about runs every second, and the Go
runtime's collection of garbage, which it does at least every two minutes, is in it. A look reads the
settings, how many members the sets have, how many rules and virtual servers there are: a number of system calls that does
not depend on the Services, which are what is dear in the test kernel. The virtual servers themselves are listed for at most a thousandth of the time.`, idleFor, large),
	}
	f.add(row{what: "CPU time", seen: fmt.Sprintf("%.2f %% of a CPU", r.median(t, "cpu")), target: "less than 0.2 %"})
	f.add(row{what: "of it, garbage collection", seen: fmt.Sprintf("%.2f %% of a CPU", r.median(t, "garbage"))})
	f.add(row{what: "the whole machine, kernel included", seen: fmt.Sprintf("%.2f %% of its CPU", r.median(t, "machine"))})
	f.add(row{what: "whole layers read", seen: fmt.Sprintf("%.0f", r.median(t, "reads")), target: "none"})
	f.add(row{what: "processes begun on the machine", seen: fmt.Sprintf("%.0f", r.median(t, "processes")), target: "none"})
	return f
}

func packetsSection() section {
	return section{
		name: "packets", rounds: 60, make: inTurns, trials: []trial{{"packets", few}, {"packets", large}}, tell: tellPackets,
	}
}

func tellPackets(r results) finding {
	f := finding{
		title: "Packets",
		words: `A pod connects to a cluster IP, sends a request, gets the reply and closes, one connection after the other; in turns
with the same to the address of a pod. Most of the time is the system calls of both ends.`,
	}
	p := plot{file: "bench-packets", title: "New TCP connections a second, one after the other", unit: "x"}
	p.bar("straight to the pod", 1)
	for _, s := range []size{few, large} {
		t := trial{"packets", s}
		f.add(row{what: s.String() + ", connections a second", seen: fmt.Sprintf("%.0f", r.median(t, "rate")),
			against: fmt.Sprintf("%.0f straight", r.median(t, "direct")), ratio: r.median(t, "share")})
		f.add(row{what: s.String() + ", 99th percentile", seen: milliseconds(r.median(t, "tail")),
			against: milliseconds(r.median(t, "directTail")) + " straight", ratio: r.median(t, "tailRatio")})
		p.bar("through kube-ipvs, "+thousands(s.Services)+" Services", r.median(t, "share"))
	}
	share := func(v float64) string { return fmt.Sprintf("%.2f", v) }
	f.add(r.against("share of the straight rate: 10,000 Services against 10", trial{"packets", large}, trial{"packets", few},
		"share", share, "1: nothing grows"))
	f.plots = []plot{p}
	return f
}
