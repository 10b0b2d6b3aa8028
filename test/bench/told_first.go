package main

// programmable are the sizes at which a first programming is compared with its floors.
var programmable = []size{medium, large}

func firstSection() section {
	s := section{name: "first", rounds: 3, make: anew, tell: tellFirst, trials: []trial{{"warm", one}}}
	for _, size := range programmable {
		s.trials = append(s.trials, trial{"writes", size}, trial{"all writes", size}, trial{"warm", size})
	}
	s.trials = append(s.trials, trial{"first", large}, trial{"first", broad})
	return s
}

func tellFirst(r results) finding {
	f := finding{
		title: "First programming, and memory",
		words: `From synced sources and an empty kernel to the last object. The constant part is settings, sets and rules, the same for any
number of Services, and starts some processes; virtual servers, real servers and members of sets follow. Both floors replay
prepared operations in the program's order and batch size: "the IPVS writer alone" virtual and real servers, "all writes" also
members of sets. The difference to a floor is reading, planning and tables. User-mode Linux makes the first use of memory
expensive, and the floors use little; so compared processes had their memory before, except "cold" ones.`,
	}
	constant := trial{"warm", one}
	f.add(row{what: one.String() + ": the constant part", seen: r.figure(constant, "seconds", seconds)})
	for _, s := range programmable {
		t := trial{"warm", s}
		for _, floor := range []struct{ part, name, target string }{
			{"writes", "the IPVS writer alone", "at most 2 x the floor"}, {"all writes", "all writes", ""},
		} {
			base, what := trial{floor.part, s}, s.String()+", against "+floor.name
			f.add(r.against(what, t, base, "seconds", seconds, floor.target))
			f.add(r.against(what+", CPU time", t, base, "cpu", seconds, ""))
			if s != large { // what is left of less is noise
				continue
			}
			variable := zip(r.values(t, "seconds"), r.values(constant, "seconds"), func(all, constant float64) float64 { return all - constant })
			f.add(row{what: what + ", without the constant part", seen: spread(variable, seconds), against: r.figure(base, "seconds", seconds),
				ratio: spread(zip(variable, r.values(base, "seconds"), func(a, b float64) float64 { return a / b }), plain)})
		}
	}
	f.add(r.against(large.String()+", cold, against the IPVS writer alone", trial{"first", large}, trial{"writes", large}, "seconds", seconds, ""))
	p := plot{file: "bench-first", title: "First programming, " + large.String(), unit: "s"}
	p.bar("the IPVS writer alone", r.median(trial{"writes", large}, "seconds"))
	p.bar("all writes", r.median(trial{"all writes", large}, "seconds"))
	p.bar("kube-ipvs", r.median(trial{"warm", large}, "seconds"))
	p.bar("kube-ipvs, cold", r.median(trial{"first", large}, "seconds"))
	f.plots = []plot{p}
	for _, s := range []size{large, broad} {
		t := trial{"first", s}
		f.add(row{what: s.String() + ", live heap per endpoint", seen: r.figure(t, "heap", bytes), target: "less than 1 KiB"})
		f.add(row{what: s.String() + ", of which the source's", seen: r.figure(t, "source", bytes)})
		f.add(row{what: s.String() + ", resident", seen: r.figure(t, "resident", mebibytes)})
		f.add(row{what: s.String() + ", resident at most", seen: r.figure(t, "peak", mebibytes)})
	}
	return f
}
