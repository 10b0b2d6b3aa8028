package see

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"kube-ipvs/sync/kube/remote"
	"kube-ipvs/sync/status"
)

// A survey asks the nodes of a cluster.
type survey struct {
	nodes    fleet
	parallel int           // nodes that are asked at once
	lag      time.Duration // how long a change may take to all nodes before they are compared by it
	begin    time.Time
}

// ask asks the nodes, and compares those that answer.
func (s survey) ask(ctx context.Context, list []remote.Node) status.ClusterStatus {
	out := status.ClusterStatus{
		TypeMeta: status.TypeMeta{Kind: "ClusterStatus", APIVersion: status.APIVersion}, Time: s.begin.UTC(), Nodes: make([]status.NodeStatus, len(list)),
	}
	s.each(len(list), func(i int) { out.Nodes[i] = s.askOne(ctx, list[i]) })
	out.Disagreements, out.NotCompared = s.compare(ctx, list, out.Nodes)
	for i := range out.Nodes {
		if n := out.Nodes[i].Status; n != nil {
			n.Sums = nil // they have done their work
		}
	}
	return out
}

// each does something for each number, for so many at once.
func (s survey) each(n int, do func(i int)) {
	var group errgroup.Group
	group.SetLimit(s.parallel)
	for i := range n {
		group.Go(func() error { do(i); return nil })
	}
	_ = group.Wait() // nothing returns an error
}

// settled is the time for which a group of Services must not have changed on a node: it was as it is before the first node was
// asked, and for longer than a change takes from node to node. So nodes are compared as they were at one time, whenever each is asked.
func (s survey) settled() time.Duration { return s.lag + time.Since(s.begin) }

// askOne asks a node.
func (s survey) askOne(ctx context.Context, n remote.Node) status.NodeStatus {
	out := status.NodeStatus{Name: n.Name, Pod: n.Pod}
	switch {
	case n.OS != "" && n.OS != "linux":
		out.State, out.Reason = status.NotLinux, n.OS
		return out
	case n.Pod == "":
		out.State, out.Reason = status.NoPod, "no pod of kube-ipvs is on the node"
		return out
	case n.Down != "":
		out.State, out.Reason = status.NoAnswer, n.Down
		return out
	}
	list, err := status.Get[status.Node](ctx, clientOf(s.nodes, n), "nodes", status.Query{Settled: s.settled()})
	switch {
	case err != nil:
		out.State, out.Reason = status.NoAnswer, reasonOf(err)
	case len(list.Items) != 1:
		out.State, out.Reason = status.NoAnswer, fmt.Sprintf("its answer is not one node, but %d", len(list.Items))
	default:
		out.Status, out.Time, out.State, out.Reason = &list.Items[0], list.Time, status.Ready, strings.Join(list.Items[0].Problems, "; ")
		if !out.Status.Ready {
			out.State, out.Reason = status.NotReady, out.Status.Reason
		}
	}
	return out
}

// reasonOf returns the cause in an error of a client, in one line.
func reasonOf(err error) string {
	if cause := errors.Unwrap(err); cause != nil {
		err = cause
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// compare returns the Services on which nodes disagree, and the nodes that did not answer when they were asked about them.
func (s survey) compare(ctx context.Context, list []remote.Node, answers []status.NodeStatus) (out []status.Disagreement, silent []string) {
	byName := map[string]remote.Node{}
	for _, n := range list {
		byName[n.Name] = n
	}
	out = []status.Disagreement{}
	for _, c := range status.Suspects(answers) {
		suspects := slices.Sorted(maps.Keys(c.Groups))
		asked := map[int]struct{}{}
		for _, groups := range c.Groups {
			for _, g := range groups {
				asked[g] = struct{}{}
			}
		}
		expected, err := s.groups(ctx, byName[c.With], slices.Sorted(maps.Keys(asked)))
		if err != nil {
			silent = append(silent, suspects...)
			continue
		}
		found := make([]map[status.Name]status.Difference, len(suspects)) // nil: no answer
		s.each(len(suspects), func(i int) {
			if got, err := s.groups(ctx, byName[suspects[i]], c.Groups[suspects[i]]); err == nil {
				found[i] = status.Differences(expected, got)
			}
		})
		differences := map[string]map[status.Name]status.Difference{}
		for i, name := range suspects {
			if differences[name] = found[i]; found[i] == nil {
				silent = append(silent, name)
			}
		}
		out = append(out, status.Disagreements(c.With, differences)...)
	}
	return out, silent
}

// mostGroups is the number of groups that are asked for at once: their numbers are a part of a URL.
const mostGroups = 256

// groups asks a node for groups of Services.
func (s survey) groups(ctx context.Context, n remote.Node, numbers []int) ([]status.Group, error) {
	var out []status.Group
	for part := range slices.Chunk(numbers, mostGroups) {
		list, err := status.Get[status.Group](ctx, clientOf(s.nodes, n), "groups", status.Query{Groups: part, Settled: s.settled()})
		if err != nil {
			return nil, err
		}
		out = append(out, list.Items...)
	}
	return out, nil
}
