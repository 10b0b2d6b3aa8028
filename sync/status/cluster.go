package status

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// A ClusterStatus sums up the nodes of a cluster.
type ClusterStatus struct {
	TypeMeta
	Time  time.Time    `json:"time"`
	Nodes []NodeStatus `json:"nodes"`

	// Disagreements are the Services that nodes of one version were told differently of, longer than changes take.
	Disagreements []Disagreement `json:"disagreements"`

	// NotCompared are nodes that may disagree, but did not answer when they were asked about single Services.
	NotCompared []string `json:"notCompared,omitempty"`
}

// A NodeStatus is the state of kube-ipvs on a node.
type NodeStatus struct {
	Name   string    `json:"name"`
	Pod    string    `json:"pod,omitempty"`
	State  NodeState `json:"state"`
	Reason string    `json:"reason,omitempty"` // why it is not ready
	Status *Node     `json:"status,omitempty"` // its own answer
	Time   time.Time `json:"time,omitzero"`    // of the answer, by the node's clock
}

// A NodeState tells whether kube-ipvs does its work on a node.
type NodeState string

// The states of nodes.
const (
	Ready    NodeState = "Ready"    // everything is programmed, or will be within the usual time
	NotReady NodeState = "NotReady" // it answers, and the reason tells why not
	NoAnswer NodeState = "NoAnswer" // it could not be asked
	NoPod    NodeState = "NoPod"    // no pod of kube-ipvs is on the node
	NotLinux NodeState = "NotLinux" // kube-ipvs runs on Linux only
)

// A Disagreement is a Service that some nodes know differently from others.
type Disagreement struct {
	Name
	Nodes []string   `json:"nodes"` // on which it differs
	How   Difference `json:"how"`
	Than  string     `json:"than"` // the node that they were compared with, which most nodes of their version agree with
}

// A Difference is the way in which a node knows a Service differently.
type Difference string

// The differences.
const (
	Missing Difference = "Missing" // the node does not have the Service
	Surplus Difference = "Surplus" // the node has it, and others do not
	Differs Difference = "Differs" // frontends, policies or endpoints differ
)

// A Comparison tells which groups of Services of which nodes are to be compared, one by one.
type Comparison struct {
	With   string           // the node that they are compared with
	Groups map[string][]int // by the node where they differ
}

// Suspects compares the sums of nodes, those of each version by themselves: another version may read more of an object. They are
// compared with the node that agrees most with all others. Groups that changed lately on one of both are not compared.
func Suspects(nodes []NodeStatus) []Comparison {
	type kind struct {
		version string
		groups  int
	}
	byKind := map[kind][]NodeStatus{}
	for _, n := range nodes {
		if n.Status != nil && len(n.Status.Sums) > 0 {
			k := kind{n.Status.Version, len(n.Status.Sums)}
			byKind[k] = append(byKind[k], n)
		}
	}
	var out []Comparison
	for _, alike := range byKind {
		if c := suspects(alike); len(c.Groups) > 0 {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Comparison) int { return cmp.Compare(a.With, b.With) })
	return out
}

// suspects compares nodes of one version.
func suspects(nodes []NodeStatus) Comparison {
	slices.SortFunc(nodes, func(a, b NodeStatus) int { return cmp.Compare(a.Name, b.Name) })
	with := mostUsual(nodes)
	out := Comparison{With: with.Name, Groups: map[string][]int{}}
	for _, n := range nodes {
		for g, sum := range n.Status.Sums {
			if expected := with.Status.Sums[g]; sum != expected && sum != 0 && expected != 0 {
				out.Groups[n.Name] = append(out.Groups[n.Name], g)
			}
		}
	}
	return out
}

// mostUsual returns the node that has, in most groups, the sum of the majority; of several the first one.
func mostUsual(nodes []NodeStatus) NodeStatus {
	alike := make([]int, len(nodes))
	for g := range nodes[0].Status.Sums {
		usual := majority(nodes, g)
		for i, n := range nodes {
			if n.Status.Sums[g] == usual {
				alike[i]++
			}
		}
	}
	return nodes[slices.Index(alike, slices.Max(alike))]
}

// majority returns the sum of a group that more than half of the nodes have, of those where it has settled. If there is none, it
// returns the sum of some node, or 0. Each node that has the candidate outweighs one that has another (Boyer and Moore).
func majority(nodes []NodeStatus, group int) (candidate uint32) {
	weight := 0
	for _, n := range nodes {
		switch sum := n.Status.Sums[group]; {
		case sum == 0:
		case sum == candidate:
			weight++
		case weight == 0:
			candidate, weight = sum, 1
		default:
			weight--
		}
	}
	return candidate
}

// Differences compares the groups of a node with those of another. Groups that only one of them has are left out: they have changed
// on the other meanwhile.
func Differences(with, of []Group) map[Name]Difference {
	theirs := map[int][]Digest{}
	for _, g := range with {
		theirs[g.Group] = g.Services
	}
	out := map[Name]Difference{}
	for _, g := range of {
		services, both := theirs[g.Group]
		if !both {
			continue
		}
		expected := map[Name]string{}
		for _, s := range services {
			expected[s.Name] = s.Digest
		}
		for _, s := range g.Services {
			switch digest, has := expected[s.Name]; {
			case !has:
				out[s.Name] = Surplus
			case digest != s.Digest:
				out[s.Name] = Differs
			}
			delete(expected, s.Name)
		}
		for name := range expected {
			out[name] = Missing
		}
	}
	return out
}

// Disagreements gathers the differences of nodes by Service, in order.
func Disagreements(with string, differences map[string]map[Name]Difference) []Disagreement {
	type key struct {
		Name
		Difference
	}
	nodes := map[key][]string{}
	for _, node := range slices.Sorted(maps.Keys(differences)) {
		for name, how := range differences[node] {
			k := key{name, how}
			nodes[k] = append(nodes[k], node)
		}
	}
	out := []Disagreement{}
	for k, n := range nodes {
		out = append(out, Disagreement{Name: k.Name, Nodes: n, How: k.Difference, Than: with})
	}
	slices.SortFunc(out, func(a, b Disagreement) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service), cmp.Compare(a.How, b.How))
	})
	return out
}
