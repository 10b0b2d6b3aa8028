// Package kube watches an API server for Services, EndpointSlices, this Node and ServiceCIDRs, keeps what the plan needs of
// them, and tells a Sink what changed. It is the only package that knows client-go.
package kube

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"
	typed "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/tools/cache"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// A Sink is told what changed. Its methods are called one at a time and must return soon; they may call the Source's.
// Nothing is called before Synced, which says, once, that everything was read and all of Names is news.
type Sink interface {
	Synced()
	ServiceChanged(plan.Name) // the Service, or one of its slices, came, changed or went
	NodeChanged()             // the Node or the service CIDRs changed
	ProblemsChanged()         // what Problems returns changed
}

// A Config is what a Source needs.
type Config struct {
	Client   kubernetes.Interface
	NodeName string

	// Events posts Events, at a pace of the Source's. Nil: none are posted.
	Events typed.EventsV1Interface

	// NodeWait is how long Synced is held back while the Node object is missing, as it is on a machine that is just
	// joining; 0: not at all.
	NodeWait time.Duration

	// Patience is how long reading may take before the log says why, and how often it does then; 0: it never does.
	Patience time.Duration
}

// A Source is an API server's Services and what belongs to them. What its methods return is shared and must not be
// changed; they may be called at any time from any goroutine, and what they say before Synced means nothing.
type Source struct {
	cfg  Config
	sink Sink

	services, slices, nodes, cidrs cache.SharedIndexInformer

	gate     gate
	nodeSeen signal // the Node object was read
	noCIDRs  signal // the API server has no ServiceCIDRs, or does not show them
	poster   *poster
}

// New returns a Source that reads nothing before Run.
func New(cfg Config, sink Sink) *Source {
	return &Source{
		cfg:      cfg,
		sink:     sink,
		services: serviceInformer(cfg.Client),
		slices:   sliceInformer(cfg.Client),
		nodes:    nodeInformer(cfg.Client, cfg.NodeName),
		cidrs:    cidrInformer(cfg.Client),
		nodeSeen: newSignal(),
		noCIDRs:  newSignal(),
		poster:   newPoster(cfg.Events),
	}
}

// Register registers the Source's metrics.
func (s *Source) Register(r prometheus.Registerer) { r.MustRegister(s.poster.count) }

// Run watches until the context is done, and returns its error then. It runs once.
func (s *Source) Run(ctx context.Context) error {
	registered, err := s.register()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { s.poster.run(ctx) })
	for _, informer := range []cache.SharedIndexInformer{s.services, s.slices, s.nodes, s.cidrs} {
		wg.Go(func() { informer.RunWithContext(ctx) })
	}
	if s.awaitAll(ctx, registered) {
		s.gate.open(s.sink.Synced)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// Names returns every Service that is to be served, in no order.
func (s *Source) Names() []plan.Name {
	list := s.services.GetStore().List()
	out := make([]plan.Name, 0, len(list))
	for _, obj := range list {
		if c := obj.(*object.Cached[plan.Service]); c.Used {
			out = append(out, c.Value.Name)
		}
	}
	return out
}

// Service returns a Service with its slices, those in the order of their names. It is false if there is no such Service,
// or none to be served.
func (s *Source) Service(name plan.Name) (plan.Service, []plan.Slice, bool) {
	c, ok := get[plan.Service](s.services, name.String())
	if !ok || !c.Used {
		return plan.Service{}, nil, false
	}
	return c.Value, s.slicesOf(name), true
}

func (s *Source) slicesOf(name plan.Name) []plan.Slice {
	// The error is that of an index without a name, and this one has it from birth.
	found, _ := s.slices.GetIndexer().ByIndex(byService, name.String())
	slices.SortFunc(found, func(a, b any) int {
		return cmp.Compare(a.(*object.Cached[plan.Slice]).Name, b.(*object.Cached[plan.Slice]).Name)
	})
	out := make([]plan.Slice, len(found))
	for i, obj := range found {
		out[i] = obj.(*object.Cached[plan.Slice]).Value
	}
	return out
}

// Node returns this node. One that the API server does not have has its name only.
func (s *Source) Node() object.Node {
	if c, ok := get[object.Node](s.nodes, s.cfg.NodeName); ok {
		return c.Value
	}
	return object.Node{Name: s.cfg.NodeName}
}

// ServiceCIDRs returns the ranges that cluster IPs are allocated from, in order. None is known of an API server that has
// no such objects, or does not show them.
func (s *Source) ServiceCIDRs() []netip.Prefix {
	var out []netip.Prefix
	for _, obj := range s.cidrs.GetStore().List() {
		out = append(out, obj.(*object.Cached[object.CIDRs]).Value.Prefixes...)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// Problems returns what could not be used of objects other than Services and their slices, which carry their own.
func (s *Source) Problems() []plan.Problem {
	out := slices.Clone(s.Node().Problems)
	for _, obj := range s.cidrs.GetStore().List() {
		out = append(out, obj.(*object.Cached[object.CIDRs]).Value.Problems...)
	}
	for _, obj := range s.slices.GetStore().List() {
		if c := obj.(*object.Cached[plan.Slice]); !c.Used {
			out = append(out, c.Value.Problems...)
		}
	}
	slices.SortFunc(out, func(a, b plan.Problem) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Field, b.Field))
	})
	return out
}

// get returns what an informer holds under a key.
func get[T any](informer cache.SharedIndexInformer, key string) (*object.Cached[T], bool) {
	// The store is a map in memory; its error is always nil.
	obj, ok, _ := informer.GetStore().GetByKey(key)
	if !ok {
		return nil, false
	}
	return obj.(*object.Cached[T]), true
}
