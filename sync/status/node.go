package status

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"kube-ipvs/sync/loop"
)

// A Node sums up what kube-ipvs does on a node. Numbers are 0 as long as it waits to begin, and where its loop does not answer.
type Node struct {
	Version  string    `json:"version"`
	Mode     string    `json:"mode"`    // ipvs
	VIPMode  string    `json:"vipMode"` // divert or bind
	Started  time.Time `json:"started"`
	Ready    bool      `json:"ready"`
	Reason   string    `json:"reason,omitempty"`   // why it is not
	Problems []string  `json:"problems,omitempty"` // of the node, which keep Services from being served
	Synced   time.Time `json:"synced,omitzero"`    // when everything was last programmed
	Waits    time.Time `json:"waits,omitzero"`     // since when a change has waited to be programmed; zero: none does

	Conntrack *Room `json:"conntrack,omitempty"` // connections that the node tracks; missing: not known

	Services   int `json:"services"`
	Changed    int `json:"changed"`    // Services that are not planned again yet
	Unserved   int `json:"unserved"`   // parts of Services that cannot be used or served, conflicts included
	Conflicts  int `json:"conflicts"`  // frontends that another Service has, or somebody else
	Frontends  int `json:"frontends"`  // that are wanted
	Programmed int `json:"programmed"` // frontends that are on
	Endpoints  int `json:"endpoints"`  // of all frontends: real servers of IPVS
	Draining   int `json:"draining"`   // of them, those that get no new connections and keep some
	Pending    int `json:"pending"`    // kernel objects that are not as wanted
	Refused    int `json:"refused"`    // of them, those whose change the kernel refused
	Repaired   int `json:"repaired"`   // external changes that were repaired since the start

	Sums Sums `json:"sums,omitempty"` // asked for by Query.Settled
}

// Sums are sums of the digests of Services by group: 0 where one changed lately. In JSON they are the numbers' bytes in base64.
type Sums []uint32

// MarshalText implements encoding.TextMarshaler.
func (s Sums) MarshalText() ([]byte, error) {
	raw, err := binary.Append(nil, binary.BigEndian, []uint32(s))
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.AppendEncode(nil, raw), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Sums) UnmarshalText(text []byte) error {
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return err
	}
	if len(raw)%4 != 0 {
		return fmt.Errorf("%d bytes are no sums of 4 bytes each", len(raw))
	}
	*s = make(Sums, len(raw)/4)
	_, err = binary.Decode(raw, binary.BigEndian, []uint32(*s))
	return err
}

// A Group is a group of Services that has not changed for the time asked for: by Query.Groups and Query.Settled.
type Group struct {
	Group    int      `json:"group"`
	Services []Digest `json:"services"`
}

// A Digest stands for all that a node was told about a Service. It is the same on all nodes of a version that were told the same.
type Digest struct {
	Name
	Digest string `json:"digest"`
}

// node returns the node's summary. It is there before the loop is.
func (s *Server) node(ctx context.Context, q Query) (List[Node], error) {
	n, err := s.sum(ctx, q.Settled)
	return List[Node]{Items: []Node{n}}, err
}

// sumLimit bounds the wait for the loop's part of a summary. It is shorter than the time for which those wait who ask all nodes.
const sumLimit = 5 * time.Second

// errSilent is the reason why a node is not ready whose loop gives no summary.
var errSilent = fmt.Errorf("the loop has not answered for %v: it is in a long sync, or stuck", sumLimit)

// sum sums the node up. What is known without the loop is told without it.
func (s *Server) sum(ctx context.Context, settled time.Duration) (Node, error) {
	var n Node
	if s.State != nil {
		n = s.State()
	}
	if s.waits() != nil {
		return n, nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, sumLimit, errSilent)
	defer cancel()
	x, err := s.Loop.Summary(limited, settled)
	switch {
	case errors.Is(err, errSilent):
		n.Ready, n.Reason = false, cmp.Or(n.Reason, err.Error())
		return n, nil
	case err != nil:
		return n, err
	}
	n.Services, n.Changed, n.Unserved, n.Conflicts = x.Services, x.Waiting, x.Unserved, x.Conflicts
	n.Frontends, n.Programmed, n.Endpoints, n.Draining = x.Frontends, x.Programmed, x.RealServers, x.Draining
	n.Pending, n.Refused, n.Repaired = x.Pending, x.Refused, x.Repaired
	if settled > 0 {
		n.Sums = x.Sums
	}
	return n, nil
}

// groups returns groups with the digests of their Services.
func (s *Server) groups(ctx context.Context, q Query) (out List[Group], err error) {
	if i := slices.IndexFunc(q.Groups, func(g int) bool { return g >= loop.Groups }); i >= 0 {
		return out, badRequest{fmt.Errorf("groups: %d is not less than %d", q.Groups[i], loop.Groups)}
	}
	found, err := s.Loop.Digests(ctx, q.Groups, q.Settled)
	for _, g := range found {
		item := Group{Group: g.Number, Services: []Digest{}}
		for _, d := range g.Services {
			item.Services = append(item.Services, Digest{titleOf(d.Service), fmt.Sprintf("%016x", d.Digest)})
		}
		out.Items = append(out.Items, item)
	}
	return out, err
}

// errWaits is the answer to questions before the loop is there.
var errWaits = errors.New("kube-ipvs has not begun yet")

// waits returns why the loop does not answer yet, or nil.
func (s *Server) waits() error {
	if s.Begun != nil && !s.Begun() {
		return errWaits
	}
	return nil
}
