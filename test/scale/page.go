package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"text/template"
	"time"
)

//go:embed scale.md.tmpl
var pageText string

// page returns the page of these figures.
func (f figures) page() (string, error) {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"On": f.On, "Measured": f.measured(), "Events": f.events(), "Rollouts": f.rollouts(), "Model": f.model(),
		"Nodes": f.nodes(), "Starts": f.starts(), "Paces": f.paces(), "Restart": size(f.Restart.bytes()), "RestartRequests": count(f.Restart.Requests),
		"EventError": percent(f.eventError()), "Watchers": watchers, "Steps": digits(f.steps()), "Walls": f.walls(),
		"Watches": watches, "Renewals": count(float64(large.nodes) * f.in(cutRequests, large.services) / renewal.Seconds()),
	})
	return out.String(), err
}

// renewal is how long a watch lasts on average: client-go asks for 5 to 10 minutes.
const renewal = 450 * time.Second

// table returns a table of Markdown.
func table(rows ...[]string) string {
	var out strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&out, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&out, "|---|%s\n", strings.Repeat("--:|", len(row)-1))
		}
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func services(n int) string { return count(float64(n)) + " Services" }

// measured is the table of what was measured at the three sizes.
func (f figures) measured() string {
	rows := [][]string{{"a node", services(f.Sizes[0].Services), services(f.Sizes[1].Services), services(f.Sizes[2].Services)}}
	for _, q := range append(quantities[:len(quantities):len(quantities)], counts...) {
		row := []string{q.name}
		for _, s := range f.Sizes {
			row = append(row, q.unit(q.of(s)))
		}
		rows = append(rows, row)
	}
	return table(rows...)
}

// events is the table of changes by the endpoints in a slice.
func (f figures) events() string {
	rows := [][]string{{"endpoints in the slice", "bytes, compressed", "bytes, not compressed", "the API server's CPU time, not compressed", "the node's CPU time"}}
	for _, e := range f.Events {
		row := []string{count(float64(e.Endpoints)), size(e.Bytes), "", "", span(e.NodeCPU)}
		for _, d := range f.Deliveries {
			if d.Endpoints == e.Endpoints {
				row[2], row[3] = size(d.Bytes), span(d.ServerCPU)
			}
		}
		rows = append(rows, row)
	}
	return table(rows...)
}

// rollouts is the table of rollouts.
func (f figures) rollouts() string {
	rows := [][]string{{"pods", "at a time", "changes of slices", "changes a pod", "bytes to a node", "bytes a pod"}}
	for _, r := range f.Rollouts {
		pods := float64(r.Pods)
		rows = append(rows, []string{count(pods), count(float64(r.Batch)), count(r.Events), digits(r.Events / pods), size(r.Bytes), size(r.Bytes / pods)})
	}
	return table(rows...)
}

// model is the table of the model, and its error.
func (f figures) model() string {
	largest := f.Sizes[2].Services
	rows := [][]string{{"a node", "constant", "each Service with its endpoints", services(largest) + " by the model", "measured", "error"}}
	for _, q := range quantities {
		l := f.between(q, 0, 1)
		model, off := f.checked(q)
		rows = append(rows, []string{q.name, q.unit(l.base), q.unit(l.slope), q.unit(model), q.unit(q.of(f.Sizes[2])), percent(off)})
	}
	return table(rows...)
}

// nodes is the table of a node in the large cluster.
func (f figures) nodes() string {
	rows := [][]string{{"each node", ""}}
	for _, q := range []quantity{heap, resident, streamedBytes, nodeCPU, changeCPU} {
		rows = append(rows, []string{q.name, q.unit(f.in(q, large.services))})
	}
	const pods = 100
	cpu := f.in(changeCPU, large.services) * f.steps() * pods
	return table(append(rows, []string{fmt.Sprintf("CPU for a rollout of %d pods a second", pods), fmt.Sprintf("%s %% of one", digits(cpu*100))})...)
}

// starts is the table of all nodes at once.
func (f figures) starts() string {
	nodes := float64(large.nodes)
	row := func(what string, bytes, cpu float64) []string {
		return []string{what, size(bytes * nodes), span(bytes * nodes / large.card), span(cpu * nodes), span(cpu * nodes / large.cores)}
	}
	in := func(q quantity) float64 { return f.in(q, large.services) }
	return table(
		[]string{"all nodes", "bytes", "with 25 Gbit/s", "the API server's CPU time", "with 32 cores"},
		row("start, by a watch", in(streamedBytes), in(streamedCPU)),
		row("start, by lists", in(listedBytes), in(listedCPU)),
		[]string{"connect again to an API server that has the history", size(in(cutBytes) * nodes), span(in(cutBytes) * nodes / large.card), "", ""},
		[]string{"stand idle, each minute", size(in(idleBytes) * nodes), "", "", ""},
	)
}

// paces is the table of rollouts in the large cluster.
func (f figures) paces() string {
	rows := [][]string{{"pods a second", "endpoints in their slices", "changes of slices a second", "events a second to all nodes", "out of the API server", "its cores"}}
	for _, d := range f.Deliveries {
		for _, pods := range []float64{1, 10, 100} {
			p := f.pace(large, pods, d)
			rows = append(rows, []string{count(pods), count(float64(d.Endpoints)), digits(p.events), count(p.deliveries), rate(p.bytes), digits(p.cores)})
		}
	}
	return table(rows...)
}

// walls is the table of what holds rollouts up.
func (f figures) walls() string {
	rows := [][]string{{"endpoints in a slice", "pods a second that take 32 cores", "pods a second that take 25 Gbit/s", "first wall", "at 20 changes a second"}}
	for _, d := range f.Deliveries {
		cores, card := f.wall(large, d)
		first := "CPU"
		if card < cores {
			first = "network"
		}
		limit := f.pace(large, controllerLimit/f.steps(), d)
		rows = append(rows, []string{count(float64(d.Endpoints)), digits(cores), digits(card), first, rate(limit.bytes) + ", " + digits(limit.cores) + " cores"})
	}
	return table(rows...)
}
