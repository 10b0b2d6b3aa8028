package main

import "fmt"

func firstSection() section {
	return section{
		name: "first", rounds: 3, make: anew, tell: tellFirst,
		trials: []trial{
			{"warm", one}, {"floor", medium}, {"warm", medium}, {"floor", large}, {"warm", large}, {"first", large}, {"first", broad},
		},
	}
}

func tellFirst(r results) finding {
	f := finding{
		title: "First programming, and memory",
		words: `From the moment at which the sources are synced, on an empty kernel, until the last object is there: settings,
sets and rules, which are the same for any number of Services and start some processes; virtual servers, real servers and
members. Against the floor: the writer alone with the same virtual and real servers, as operations that are there already.
Memory that is touched for the first time is dear in user-mode Linux, and the floor touches none; so the comparison is made in a process that had its memory before. "Cold" is one that had not.`,
	}
	constant := r.median(trial{"warm", one}, "seconds")
	f.add(row{what: one.String() + ": the constant part", seen: seconds(constant)})
	for _, s := range []size{medium, large} {
		f.add(r.against(s.String(), trial{"warm", s}, trial{"floor", s}, "seconds", seconds, "at most 2 x the floor"))
		f.add(r.against(s.String()+", CPU time", trial{"warm", s}, trial{"floor", s}, "cpu", seconds, ""))
	}
	f.add(row{what: large.String() + ", without the constant part", seen: seconds(r.median(trial{"warm", large}, "seconds") - constant),
		against: seconds(r.median(trial{"floor", large}, "seconds")), ratio: r.variable(large)})
	f.add(r.against(large.String()+", cold", trial{"first", large}, trial{"floor", large}, "seconds", seconds, ""))
	p := plot{file: "bench-first", title: "First programming, " + large.String(), unit: "s"}
	p.bar("floor: the writer alone", r.median(trial{"floor", large}, "seconds"))
	p.bar("kube-ipvs", r.median(trial{"warm", large}, "seconds"))
	p.bar("kube-ipvs, cold", r.median(trial{"first", large}, "seconds"))
	f.plots = []plot{p}
	for _, s := range []size{large, broad} {
		t := trial{"first", s}
		f.add(row{what: s.String() + ", live heap per endpoint", target: "less than 1 KiB",
			seen: fmt.Sprintf("%.0f bytes, of which %.0f are the source's", r.median(t, "heap"), r.median(t, "source"))})
		f.add(row{what: s.String() + ", resident",
			seen: fmt.Sprintf("%.0f MiB, %.0f at most", r.median(t, "resident"), r.median(t, "peak"))})
	}
	return f
}

// variable is the ratio to the floor of what grows with the size.
func (r results) variable(s size) float64 {
	var values []float64
	for i, f := range r[trial{"warm", s}] {
		values = append(values, (f["seconds"]-r[trial{"warm", one}][i]["seconds"])/r[trial{"floor", s}][i]["seconds"])
	}
	return median(values)
}
