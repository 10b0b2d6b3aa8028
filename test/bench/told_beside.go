package main

import "fmt"

func besideSection() section {
	return section{
		name: "beside", rounds: 1, make: anew, tell: tellBeside,
		trials: []trial{{ours, small}, {ipvsMode, small}, {iptablesMode, small}, {ours, medium}, {iptablesMode, medium}},
	}
}

func tellBeside(r results) finding {
	f := finding{
		title: "Beside kube-proxy",
		words: `Each proxy is a program that watches an API server, the small one of test/kubeproxy, with the Services there already.
First programming is from the start of the process until all is programmed, as a health-check node port of a Service that is
written last, or kube-ipvs's own metrics, tell. A changed endpoint is from the write into the API server until the new
endpoint answers a pod. kube-proxy's minimum periods between two attempts are 0. Its ipvs mode is measured with 200 Services only;
with 1,000 it takes several minutes. Against kube-ipvs: how many times as long, or as many.`,
	}
	change := plot{file: "bench-beside", title: "One changed endpoint of 200 Services, until it answers", unit: "s"}
	for _, t := range besideSection().trials {
		base, name := trial{ours, t.size}, "kube-proxy, "+t.part+" mode"
		if t == base {
			name = ours
		}
		f.add(r.against(fmt.Sprintf("%s: first programming, %v", name, t.size), t, base, "seconds", seconds, ""))
		f.add(r.against(name+": one changed endpoint", t, base, "packet", milliseconds, ""))
		f.add(row{what: name + ": new connections a second", seen: fmt.Sprintf("%.0f", r.median(t, "rate")),
			against: fmt.Sprintf("%.0f straight", r.median(t, "rate")/r.median(t, "share")), ratio: r.median(t, "share")})
		if t.size == small {
			change.bar(name, r.median(t, "packet"))
		}
	}
	f.plots = []plot{change}
	return f
}
