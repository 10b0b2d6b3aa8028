package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/ipvs/sysctl"
)

// A verdict is what becomes of an operation.
type verdict uint8

const (
	goesWell verdict = iota
	refused          // it is not carried out
	unheard          // it is carried out, and its reply is lost
)

// A trace stands between a loop and a kernel: it notes every operation and every reading, and may let them fail.
type trace struct {
	to    parts
	check func(what string) // called before what goes well or unheard; may be nil

	mu    sync.Mutex
	judge func(n int, what string) verdict // may be nil
	noted []string
}

var errInjected = errors.New("injected failure")

// judged lets judge say from now on what becomes of calls.
func (t *trace) judged(judge func(n int, what string) verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.judge = judge
}

// verdict notes what is asked for and says what becomes of it.
func (t *trace) verdict(what string) verdict {
	t.mu.Lock()
	t.noted = append(t.noted, what)
	v := goesWell
	if t.judge != nil {
		v = t.judge(len(t.noted), what)
	}
	t.mu.Unlock()
	if v != refused && t.check != nil {
		t.check(what)
	}
	return v
}

// take returns what was noted since the last time.
func (t *trace) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.noted
	t.noted = nil
	return out
}

// one passes a call on that is one operation.
func (t *trace) one(what string, call func() error) error {
	switch t.verdict(what) {
	case refused:
		return fmt.Errorf("%s: %w", what, errInjected)
	case unheard:
		_ = call()
		return fmt.Errorf("%s: %w", what, errInjected)
	}
	return call()
}

// do passes operations on, one at a time: each is judged by what the ones before it left.
func do[Op fmt.Stringer](t *trace, ops []Op, call func([]Op) []error) []error {
	errs := make([]error, len(ops))
	for i, op := range ops {
		errs[i] = t.one(op.String(), func() error { return errors.Join(call([]Op{op})...) })
	}
	if errors.Join(errs...) == nil {
		return nil
	}
	return errs
}

// parts returns a kernel that is traced.
func (t *trace) parts() parts {
	return parts{tracedIPVS{t}, tracedSets{t, t.to.sets}, tracedSteering{t}, tracedRules{t, t.to.rules}, tracedSettings{t}, tracedFlows{t}}
}

type tracedIPVS struct{ *trace }

func (t tracedIPVS) Read(ctx context.Context) (table ipvs.Table, err error) {
	err = t.one("read the IPVS table", func() error { table, err = t.to.ipvs.Read(ctx); return err })
	return table, err
}

func (t tracedIPVS) ReadServer(ctx context.Context, k ipvs.Key) (e ipvs.Entry, err error) {
	err = t.one(fmt.Sprintf("read %v", k), func() error { e, err = t.to.ipvs.ReadServer(ctx, k); return err })
	return e, err
}

func (t tracedIPVS) Count(ctx context.Context) (n int, err error) {
	err = t.one("count virtual servers", func() error { n, err = t.to.ipvs.Count(ctx); return err })
	return n, err
}

func (t tracedIPVS) Walk(ctx context.Context, fn func(ipvs.Key, ipvs.Entry)) error {
	return t.one("walk the IPVS table", func() error { return t.to.ipvs.Walk(ctx, fn) })
}

func (t tracedIPVS) Do(ctx context.Context, ops []ipvs.Op) []error {
	return do(t.trace, ops, func(ops []ipvs.Op) []error { return t.to.ipvs.Do(ctx, ops) })
}

type tracedSets struct {
	*trace
	ipset.Kernel // for what is not traced
}

func (t tracedSets) Create(ctx context.Context, s ipset.Set) error {
	return t.one("ipset create "+s.Name, func() error { return t.to.sets.Create(ctx, s) })
}

func (t tracedSets) Destroy(ctx context.Context, name string) error {
	return t.one("ipset destroy "+name, func() error { return t.to.sets.Destroy(ctx, name) })
}

func (t tracedSets) Names(ctx context.Context) (names []string, err error) {
	err = t.one("read the names of sets", func() error { names, err = t.to.sets.Names(ctx); return err })
	return names, err
}

func (t tracedSets) Read(ctx context.Context, s ipset.Set) (members map[ipset.Member]ipset.Mark, err error) {
	err = t.one("read set "+s.Name, func() error { members, err = t.to.sets.Read(ctx, s); return err })
	return members, err
}

func (t tracedSets) Do(ctx context.Context, ops []ipset.Op) []error {
	return do(t.trace, ops, func(ops []ipset.Op) []error { return t.to.sets.Do(ctx, ops) })
}

type tracedSteering struct{ *trace }

func (t tracedSteering) Read(ctx context.Context) (items steering.Items, err error) {
	err = t.one("read routes", func() error { items, err = t.to.steering.Read(ctx); return err })
	return items, err
}

func (t tracedSteering) Do(ctx context.Context, ops []steering.Op) []error {
	return do(t.trace, ops, func(ops []steering.Op) []error { return t.to.steering.Do(ctx, ops) })
}

// TracedRules take a moment, each family another one, as the loop does not wait for them: so the same comes after the same
// every time.
type tracedRules struct {
	*trace
	iptables.Kernel // for what is not traced
}

// moment passes when the loop has done all that it does meanwhile: a bubble's time stands still before.
func moment(f inet.Family) { time.Sleep(time.Duration(f)) }

func (t tracedRules) Ensure(ctx context.Context, r iptables.Ruleset) error {
	moment(r.Family)
	return t.one(fmt.Sprintf("iptables-restore (%v)", r.Family), func() error { return t.to.rules.Ensure(ctx, r) })
}

func (t tracedRules) InSync(ctx context.Context, f inet.Family) (inSync bool, err error) {
	moment(f)
	err = t.one(fmt.Sprintf("iptables-save (%v)", f), func() error { inSync, err = t.to.rules.InSync(ctx, f); return err })
	return inSync, err
}

func (t tracedRules) Remove(ctx context.Context, f inet.Family) error {
	return t.one(fmt.Sprintf("remove rules (%v)", f), func() error { return t.to.rules.Remove(ctx, f) })
}

type tracedSettings struct{ *trace }

func (t tracedSettings) Read(ctx context.Context, names []string) (values map[string]string, err error) {
	err = t.one("read settings", func() error { values, err = t.to.sysctl.Read(ctx, names); return err })
	return values, err
}

func (t tracedSettings) Do(ctx context.Context, settings []sysctl.Setting) []error {
	return do(t.trace, settings, func(s []sysctl.Setting) []error { return t.to.sysctl.Do(ctx, s) })
}

type tracedFlows struct{ *trace }

func (t tracedFlows) Delete(ctx context.Context, frontends []conntrack.Frontend) (n int, err error) {
	var names []string
	for _, f := range frontends {
		names = append(names, f.At.String())
	}
	slices.Sort(names)
	err = t.one("delete stale flows to "+strings.Join(names, ", "), func() error { n, err = t.to.flows.Delete(ctx, frontends); return err })
	return n, err
}
