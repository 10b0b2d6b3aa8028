package main

import (
	"fmt"
	"math"
	"slices"
)

func pathTrial(contender string, s size) trial { return trial{"path, " + contender, s} }

// served are the contenders with the state of IPVS, ours first.
var served = []string{divert, external, bind, peerIPVS}

// pathSizes are who is measured at which size. An emulated machine takes half an hour for the rules of ten thousand Services.
var pathSizes = []struct {
	size    size
	proxies []string
}{{few, append(slices.Clone(served), peerRules)}, {large, served}}

// pathBases are those that do not depend on a size.
var pathNothing, pathConntrack = pathTrial(nobody, few), pathTrial(conntrack, few)

// wayWords say which packets go a way.
var wayWords = map[string]string{
	forwarded:   "a packet that is nobody's",
	established: "a packet of a connection to a cluster IP",
	newTCP:      "the first packet of a connection to a cluster IP",
	newUDP:      "the first packet of a UDP flow to a cluster IP",
}

func pathSection() section {
	trials := []trial{pathNothing, pathConntrack}
	for _, s := range pathSizes {
		for _, p := range s.proxies {
			trials = append(trials, pathTrial(p, s.size))
		}
	}
	return section{name: "path", rounds: 7, make: inTurns, trials: trials, tell: tellPath}
}

func tellPath(r results) finding {
	f := finding{
		title: "From a pod to another of the node",
		words: fmt.Sprintf(`The kernel's instructions for one packet, from a pod's link until another pod of the node drops it on arrival. Each contender
programmed a node of its own and ended; its rules stay. They take turns: %d packets of a connection at a time, or %d that each
begin one, without answers. The cheapest batch of a turn counts, and the median of the turns. "Nothing" forwards without conntrack;
"conntrack alone" has one rule that needs it. Of the %s Services of kube-proxy's ipvs mode, %s were added by hand, as it would have
them. Rules and set lookups are counted by the rules' counters; a lookup behind another match of its rule counts even if that match
failed.`, pathBatch, newBatchSize, thousands(large.Services), thousands(large.Services-few.Services)),
	}
	f.add(r.cost("conntrack alone: a packet that is nobody's, against nothing", pathConntrack, forwarded, pathNothing, forwarded))
	for _, s := range pathSizes {
		for _, p := range s.proxies {
			r.path(&f, p, s.size)
		}
	}
	f.plots = []plot{r.pathPlot(forwarded, "path-nobodys", "A packet that is nobody's"), r.pathPlot(established, "path-established", "A packet of an established connection to a cluster IP")}
	return f
}

// pathPlot compares one way of all contenders with a packet that only conntrack sees.
func (r results) pathPlot(way, file, title string) plot {
	p := plot{file: file, title: fmt.Sprintf("%s, %s Services", title, thousands(large.Services)), unit: "x"}
	p.bar("nobody's, nothing", median(r.each(pathNothing, forwarded, pathConntrack, forwarded)))
	p.bar("nobody's, conntrack alone", 1)
	for _, c := range served {
		p.bar(c, median(r.each(pathTrial(c, large), way, pathConntrack, forwarded)))
	}
	return p
}

// path tells of one contender.
func (r results) path(f *finding, contender string, s size) {
	t, peer := pathTrial(contender, s), pathTrial(peerIPVS, s)
	what := fmt.Sprintf("%v, %s: ", s, contender)
	f.add(r.cost(what+wayWords[forwarded]+", against conntrack alone", t, forwarded, pathConntrack, forwarded))
	f.add(r.cost(what+wayWords[established]+", against one straight to a pod", t, established, t, forwarded))
	if contender != peerIPVS && contender != peerRules {
		for _, way := range []string{forwarded, established, newTCP, newUDP} {
			f.add(r.cost(what+wayWords[way]+", against kube-proxy's ipvs mode", t, way, peer, way))
		}
	}
	met := func(way string) string {
		return fmt.Sprintf("%s, %s", whole(r.median(t, "rules "+way)), whole(r.median(t, "sets "+way)))
	}
	f.add(row{what: what + "rules, and lookups in sets: nobody's; connection's; new connection's; new flow's",
		seen: fmt.Sprintf("%s; %s; %s; %s", met(forwarded), met(established), met(newTCP), met(newUDP))})
}

// cost is a row that compares two ways.
func (r results) cost(what string, t trial, way string, base trial, baseWay string) row {
	return row{what: what, seen: instructions(median(r.values(t, way))), against: instructions(median(r.values(base, baseWay))),
		ratio: plain(median(r.each(t, way, base, baseWay)))}
}

// each returns the ratio of two figures of each round.
func (r results) each(t trial, name string, base trial, baseName string) []float64 {
	return zip(r.values(t, name), r.values(base, baseName), func(a, b float64) float64 { return a / b })
}

// instructions are nanoseconds in a machine whose clock counts them.
func instructions(s float64) string { return thousands(int(math.Round(s * 1e9))) }
