package loop

import (
	"context"
	"net/netip"

	"kube-ipvs/sync/plan"
)

// An Explainer is a Dataplane that predicts the fate of a packet from the state that it has programmed.
type Explainer interface {
	// Explain returns one verdict for each origin that a packet to an address may have: exactly one for a known source, unless
	// origins are told apart by interface; one for each origin if from is the zero Addr.
	Explain(to plan.Address, from netip.Addr) []Verdict
}

// An Origin is the kind of a packet's source.
type Origin uint8

// The origins. The first two are internal.
const (
	FromPod     Origin = iota // as --detect-local-mode finds pods
	FromNode                  // this node itself
	FromOutside               // everybody else; pods too if there is no way to find them
)

// String returns the origin in one word.
func (o Origin) String() string { return [...]string{"pod", "node", "outside"}[o] }

// An Outcome is the fate of the first packet of a connection.
type Outcome uint8

// The outcomes.
const (
	Delivered Outcome = iota // to one of the endpoints
	Refused                  // reset, or an ICMP error
	Dropped                  // silently
	NotServed                // no Service's: it goes on as if kube-ipvs were not there
)

// String returns the outcome in words.
func (o Outcome) String() string {
	return [...]string{"delivered", "refused", "dropped", "not served"}[o]
}

// A Verdict is the predicted fate of the first packet of a connection, with its reasons.
type Verdict struct {
	Origin  Origin
	Outcome Outcome

	// Endpoints are those that may get the connection.
	Endpoints []netip.AddrPort
	// Share is the chance of each endpoint to get it, such as "1/3". Empty: the scheduler decides by more than its turn.
	Share string
	// Masqueraded reports whether endpoints see an address of this node as source, and not the packet's own.
	Masqueraded bool
	// Hairpin reports whether the source is one of the endpoints: that one sees the node's address when it meets itself.
	Hairpin bool

	Steps []Step
}

// A Step is one decision on a packet's way.
type Step struct {
	Text    string
	Command string // shows the decision in the kernel; may be empty
}

// Explain predicts the fate of a packet from the state that is programmed, for each origin that it may have. It may be called
// from any goroutine. Without verdicts the data plane predicts nothing.
func (l *Loop) Explain(ctx context.Context, to plan.Address, from netip.Addr) (verdicts []Verdict, err error) {
	explainer, ok := l.dataplane.(Explainer)
	if !ok {
		return nil, nil
	}
	err = l.ask(ctx, func() { verdicts = explainer.Explain(to, from) })
	return verdicts, err
}
