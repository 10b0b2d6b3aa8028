package main

import "fmt"

func pathTrial(contender string, s size) trial { return trial{"path, " + contender, s} }

// proxies are the contenders that serve, ours first.
var proxies = []string{divert, bind, peerIPVS, peerRules}

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
	for _, s := range []size{few, large} {
		for _, p := range proxies {
			trials = append(trials, pathTrial(p, s))
		}
	}
	return section{name: "path", rounds: 150, make: inTurns, trials: trials, tell: tellPath}
}

func tellPath(r results) finding {
	f := finding{
		title: "A packet's way",
		words: fmt.Sprintf(`The kernel's time for one packet, from a pod's link until another pod of the node drops it on arrival. Each contender
programmed a node of its own and ended; its rules stay. They take turns of some milliseconds: %d packets of a connection at a
time, or %d that each begin one, without answers. The fastest batch of a turn counts. Brackets hold the middle half of the rounds.
"Nothing" forwards without conntrack; "conntrack alone" has one rule that needs it. Of the %s Services of kube-proxy's ipvs mode,
%s were added by hand, as it would have them. Rules and set lookups are counted by the rules' counters; a lookup behind another
match of its rule counts even if that match failed.`, pathBatch, newBatchSize, thousands(large.Services), thousands(large.Services-few.Services)),
	}
	f.add(r.halves("conntrack alone: a packet that is nobody's, against nothing", pathConntrack, forwarded, pathNothing, forwarded, ""))
	for _, s := range []size{few, large} {
		for _, p := range proxies {
			r.path(&f, p, s)
		}
	}
	for _, p := range proxies[:2] {
		for _, way := range []string{forwarded, established, newTCP, newUDP} {
			f.add(r.halves(fmt.Sprintf("%s, %s: %s against %s", p, wayWords[way], large, few), pathTrial(p, large), way, pathTrial(p, few), way, "1: nothing grows"))
		}
	}
	f.plots = []plot{r.pathPlot(forwarded, "bench-path", "A packet that is nobody's"), r.pathPlot(established, "bench-established", "A packet of an established connection to a cluster IP")}
	return f
}

// pathPlot compares one way of all contenders with a packet that only conntrack sees.
func (r results) pathPlot(way, file, title string) plot {
	p := plot{file: file, title: fmt.Sprintf("%s, %s Services", title, thousands(large.Services)), unit: "x"}
	p.bar("nobody's, nothing", median(r.each(pathNothing, forwarded, pathConntrack, forwarded)))
	p.bar("nobody's, conntrack alone", 1)
	for _, c := range proxies {
		p.bar(c, median(r.each(pathTrial(c, large), way, pathConntrack, forwarded)))
	}
	return p
}

// path tells of one contender.
func (r results) path(f *finding, contender string, s size) {
	t, peer := pathTrial(contender, s), pathTrial(peerIPVS, s)
	forwardedTarget, establishedTarget := "", ""
	ours := contender == divert || contender == bind
	if ours {
		forwardedTarget, establishedTarget = "at most 1.05", "at most 1.10"
	}
	what := fmt.Sprintf("%v, %s: ", s, contender)
	f.add(r.halves(what+wayWords[forwarded]+", against conntrack alone", t, forwarded, pathConntrack, forwarded, forwardedTarget))
	f.add(r.halves(what+wayWords[established]+", against one straight to a pod", t, established, t, forwarded, establishedTarget))
	f.add(r.halves(what+wayWords[newTCP]+", against one straight to a pod", t, newTCP, t, straightTCP, ""))
	f.add(r.halves(what+wayWords[newUDP]+", against one straight to a pod", t, newUDP, t, straightUDP, ""))
	if ours {
		for _, way := range []string{forwarded, established, newTCP, newUDP} {
			target := ""
			if way == forwarded {
				target = "at most 1"
			}
			f.add(r.halves(what+wayWords[way]+", against kube-proxy's ipvs mode", t, way, peer, way, target))
		}
	}
	met := func(way string) string {
		return fmt.Sprintf("%s, %s", whole(r.median(t, "rules "+way)), whole(r.median(t, "sets "+way)))
	}
	f.add(row{what: what + "rules, and look-ups in sets: nobody's; connection's; new connection's; new flow's",
		seen: fmt.Sprintf("%s; %s; %s; %s", met(forwarded), met(established), met(newTCP), met(newUDP))})
}

// halves is a row that compares two ways.
func (r results) halves(what string, t trial, way string, base trial, baseWay, target string) row {
	return row{what: what, seen: middle(r.values(t, way), micros), against: middle(r.values(base, baseWay), micros),
		ratio: middle(r.each(t, way, base, baseWay), plain), target: target}
}

// each returns the ratio of two figures of each round.
func (r results) each(t trial, name string, base trial, baseName string) []float64 {
	return zip(r.values(t, name), r.values(base, baseName), func(a, b float64) float64 { return a / b })
}

func micros(s float64) string { return fmt.Sprintf("%.2f µs", s*1e6) }
