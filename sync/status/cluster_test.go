package status

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// answered returns the answer of a node of a version, with sums.
func answered(name, version string, sums ...uint32) NodeStatus {
	return NodeStatus{Name: name, Status: &Node{Version: version, Sums: sums}}
}

func TestSuspects(t *testing.T) {
	for _, tt := range []struct {
		name  string
		nodes []NodeStatus
		want  []Comparison
	}{
		{"no node", nil, nil},
		{"nobody answers", []NodeStatus{{Name: "a"}, {Name: "b", Status: &Node{}}}, nil},
		{"all agree", []NodeStatus{answered("a", "v1", 1, 3), answered("b", "v1", 1, 3)}, nil},
		{"one differs", []NodeStatus{answered("a", "v1", 1, 5), answered("b", "v1", 1, 3), answered("c", "v1", 1, 3)},
			[]Comparison{{With: "b", Groups: map[string][]int{"a": {1}}}}},
		{"two nodes, of which nobody knows who is right", []NodeStatus{answered("b", "v1", 1, 3), answered("a", "v1", 1, 5)},
			[]Comparison{{With: "a", Groups: map[string][]int{"b": {1}}}}},
		{"one changed lately", []NodeStatus{answered("a", "v1", 1, 0), answered("b", "v1", 1, 3), answered("c", "v1", 0, 0)}, nil},
		{"all changed lately", []NodeStatus{answered("a", "v1", 0, 0), answered("b", "v1", 0, 0)}, nil},
		{"each node differs in a group of its own", []NodeStatus{answered("a", "v1", 9, 3, 7), answered("b", "v1", 1, 9, 7), answered("c", "v1", 1, 3, 9)},
			[]Comparison{{With: "a", Groups: map[string][]int{"b": {0, 1}, "c": {0, 2}}}}},
		{"versions are compared apart", []NodeStatus{answered("a", "v1", 1), answered("b", "v2", 3), answered("c", "v2", 3), answered("d", "v1", 5), answered("e", "v1", 5)},
			[]Comparison{{With: "d", Groups: map[string][]int{"a": {0}}}}},
		{"one has other groups", []NodeStatus{answered("a", "v1", 1, 3), answered("b", "v1", 1)}, nil},
	} {
		if diff := cmp.Diff(tt.want, Suspects(tt.nodes)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// One of five thousand nodes differs in one group.
func TestSuspectsOfManyNodes(t *testing.T) {
	var nodes []NodeStatus
	for i := range 5000 {
		sums := make([]uint32, 1024)
		for g := range sums {
			sums[g] = uint32(2*g + 1)
		}
		nodes = append(nodes, answered(fmt.Sprintf("node%04d", i), "v1", sums...))
	}
	nodes[4321].Status.Sums[7] = 99
	got, want := Suspects(nodes), []Comparison{{With: "node0000", Groups: map[string][]int{"node4321": {7}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDisagreements(t *testing.T) {
	group := func(number int, services ...string) Group {
		g := Group{Group: number}
		for i := 0; i < len(services); i += 2 {
			g.Services = append(g.Services, Digest{Name{"shop", services[i]}, services[i+1]})
		}
		return g
	}
	with := []Group{group(1, "a", "1", "b", "2"), group(2), group(3, "d", "4")}
	got := Disagreements("n1", map[string]map[Name]Difference{
		"n3": Differences(with, []Group{group(1, "a", "1", "b", "2"), group(2)}),
		"n4": Differences(with, []Group{group(1, "a", "1"), group(2, "c", "3")}),
		"n2": Differences(with, []Group{group(1, "a", "9", "b", "2"), group(4, "e", "5")}), // group 3 changed here, 4 there
		"n5": Differences(with, []Group{group(1, "b", "8")}),
	})
	var lines []string
	for _, d := range got {
		lines = append(lines, fmt.Sprintf("%s/%s %s on %v, not on %s", d.Namespace, d.Service, d.How, d.Nodes, d.Than))
	}
	want := []string{
		"shop/a Differs on [n2], not on n1", "shop/a Missing on [n5], not on n1",
		"shop/b Differs on [n5], not on n1", "shop/b Missing on [n4], not on n1",
		"shop/c Surplus on [n4], not on n1",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
