package main

import (
	"context"
	"fmt"
)

// A section is measurements that are told together.
type section struct {
	name   string
	rounds int
	trials []trial
	tell   func(results) finding
}

func sections() []section {
	return []section{firstSection(), changeSection(), idleSection(), packetsSection()}
}

// measure makes the section's measurements, in so many rounds as it needs if none are said.
func (s section) measure(ctx context.Context, rounds int) (finding, error) {
	if rounds == 0 {
		rounds = s.rounds
	}
	seen, err := inTurns(ctx, rounds, s.trials...)
	if err != nil {
		return finding{}, fmt.Errorf("%s: %w", s.name, err)
	}
	return s.tell(seen), nil
}

// The sizes.
var (
	one        = size{1, 1}
	few        = size{10, 10}
	small      = size{200, 10}
	medium     = size{1_000, 10}
	broad      = size{1_000, 100}
	large      = size{10_000, 10}
	changeable = []size{small, {2_000, 10}, {20_000, 10}}
)

func firstSection() section {
	return section{
		name: "first", rounds: 3,
		trials: []trial{
			{"warm", one}, {"floor", medium}, {"warm", medium}, {"floor", large}, {"warm", large}, {"first", large}, {"first", broad},
		},
		tell: func(r results) finding {
			f := finding{
				title: "First programming, and memory",
				words: `From the moment at which the sources are synced, on an empty kernel, until the last object is there: settings,
sets and rules, which are the same for any number of Services and start some processes; virtual servers, real servers and
members. Against the floor: the writer alone with the same virtual and real servers as operations that are there already.
Memory that is touched for the first time costs user-mode Linux some hundred times what it costs elsewhere, and the floor touches
none, so the comparison is made in a process that had its memory before; "cold" is one that had not.`,
				plots: []plot{{file: "bench-first", title: "First programming, 10,000 Services x 10 endpoints", unit: "s"}},
			}
			f.add(row{what: one.String() + ": the constant part", seen: seconds(r[trial{"warm", one}]["seconds"])})
			for _, s := range []size{medium, large} {
				f.add(against(s.String(), r[trial{"warm", s}]["seconds"], r[trial{"floor", s}]["seconds"], seconds, "at most 2 x the floor"))
			}
			f.add(against(large.String()+", CPU time", r[trial{"warm", large}]["cpu"], r[trial{"floor", large}]["cpu"], seconds, ""))
			f.add(against(large.String()+", cold", r[trial{"first", large}]["seconds"], r[trial{"floor", large}]["seconds"], seconds, ""))
			f.plots[0].bar("floor: the writer alone", r[trial{"floor", large}]["seconds"])
			f.plots[0].bar("kube-ipvs", r[trial{"warm", large}]["seconds"])
			f.plots[0].bar("kube-ipvs, cold", r[trial{"first", large}]["seconds"])
			for _, s := range []size{large, broad} {
				seen := r[trial{"first", s}]
				f.add(row{what: s.String() + ", live heap per endpoint", target: "less than 1 KiB",
					seen: fmt.Sprintf("%.0f bytes, of which %.0f are the source's", seen["heap"], seen["source"])})
				f.add(row{what: s.String() + ", resident", seen: fmt.Sprintf("%.0f MiB, %.0f at most", seen["resident"], seen["peak"])})
			}
			return f
		},
	}
}

func changeSection() section {
	var trials []trial
	for _, s := range changeable {
		trials = append(trials, trial{"change", s})
	}
	return section{name: "change", rounds: 3, trials: trials, tell: func(r results) finding {
		f := finding{
			title: "One changed endpoint",
			words: `An endpoint of one Service comes and goes, again and again. Time and CPU time run from the write into the source, which is
in memory and holds what the informers hold; an API server is not in it. The first packet is that of a pod which connects to the
cluster IP again and again, until the new endpoint answers. An endpoint that goes is asked for its connections with one question.
Against 200 Services.`,
			plots: []plot{
				{file: "bench-change", title: "CPU time of one changed endpoint", unit: "µs"},
				{file: "bench-latency", title: "From the write to the first answer of a new endpoint", unit: "ms"},
			},
		}
		base := r[trials[0]]
		for _, t := range trials {
			seen, target := r[t], ""
			if t == trials[len(trials)-1] {
				target = "at most 1.2 x that of 200"
			}
			f.add(against(t.size.String()+", CPU time", seen["cpu"], base["cpu"], microseconds, target))
			f.add(against(t.size.String()+", until the kernel was told", seen["programmed"], base["programmed"], microseconds, target))
			f.add(against(t.size.String()+", until the first answer", seen["packet"], base["packet"], milliseconds, target))
			f.add(row{what: t.size.String() + ", messages, changes asked for, whole layers read",
				seen: fmt.Sprintf("%.1f, %.1f, %.0f", seen["messages"], seen["operations"], seen["reads"]), target: "the same for all"})
			f.plots[0].bar(thousands(t.size.Services)+" Services", seen["cpu"]*1e6)
			f.plots[1].bar(thousands(t.size.Services)+" Services", seen["packet"]*1e3)
		}
		return f
	}}
}

func idleSection() section {
	t := trial{"idle", large}
	return section{name: "idle", rounds: 1, trials: []trial{t}, tell: func(r results) finding {
		seen := r[t]
		f := finding{
			title: "Nothing changes",
			words: fmt.Sprintf(`For %v, with %v. The look at what the kernel tells nobody about runs every second, and the Go
runtime's collection of garbage, which it does at least every two minutes, is in it.`, idleFor, large),
		}
		f.add(row{what: "CPU time", seen: fmt.Sprintf("%.2f %% of a CPU", seen["cpu"]), target: "less than 0.2 %"})
		f.add(row{what: "the whole machine, kernel included", seen: fmt.Sprintf("%.2f %% of its CPU", seen["machine"])})
		f.add(row{what: "whole layers read", seen: fmt.Sprintf("%.0f", seen["reads"]), target: "none"})
		f.add(row{what: "processes begun on the machine", seen: fmt.Sprintf("%.0f", seen["processes"]), target: "none"})
		return f
	}}
}

func packetsSection() section {
	sizes := []size{few, large}
	return section{name: "packets", rounds: 3, trials: []trial{{"packets", few}, {"packets", large}}, tell: func(r results) finding {
		f := finding{
			title: "Packets",
			words: `A pod connects to a cluster IP, sends a request, gets the reply and closes, one connection after the other; in turns with the
same to the address of the pod behind it. Most of the time is the system calls of both ends.`,
			plots: []plot{{file: "bench-packets", title: "New TCP connections a second, one after the other", unit: "/s"}},
		}
		f.plots[0].bar("straight to the pod", r[trial{"packets", few}]["direct"])
		for _, s := range sizes {
			seen := r[trial{"packets", s}]
			f.add(row{what: s.String() + ", connections a second", seen: fmt.Sprintf("%.0f", seen["rate"]),
				against: fmt.Sprintf("%.0f straight", seen["direct"]), ratio: seen["share"]})
			f.add(row{what: s.String() + ", 99th percentile", seen: milliseconds(seen["tail"]),
				against: milliseconds(seen["directTail"]) + " straight", ratio: seen["tailRatio"]})
			f.plots[0].bar("through kube-ipvs, "+thousands(s.Services)+" Services", seen["rate"])
		}
		a, b := r[trial{"packets", few}], r[trial{"packets", large}]
		f.add(row{what: "10,000 Services against 10: share of the straight rate", seen: fmt.Sprintf("%.2f", b["share"]),
			against: fmt.Sprintf("%.2f", a["share"]), ratio: b["share"] / a["share"], target: "1: nothing grows"})
		return f
	}}
}
