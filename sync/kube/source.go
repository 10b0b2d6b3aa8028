// Package kube implements source.Source on an API server: it watches Services, EndpointSlices, this Node and
// ServiceCIDRs, caches the plan's input, and notifies a Handler of changes. It is the only package that imports
// client-go.
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
	"kube-ipvs/sync/source"
)

// A Config configures a Source.
type Config struct {
	Client   kubernetes.Interface
	NodeName string

	Problems source.Problems // nil: not called

	// Events posts Events, at a rate that the Source limits. Nil: none are posted.
	Events typed.EventsV1Interface

	// NodeWait is the longest delay of Synced while the Node object is missing, as on a machine that just joins; 0:
	// none.
	NodeWait time.Duration

	// WaitLogInterval is the time after which the log gives the reason of a slow initial read, and the interval of
	// repetitions; 0: never.
	WaitLogInterval time.Duration
}

// A Source implements source.Source on an API server.
type Source struct {
	cfg     Config
	handler source.Handler

	services, slices, nodes, cidrs cache.SharedIndexInformer

	gate     gate
	nodeSeen latch // the Node object was read
	noCIDRs  latch // the API server lacks or hides ServiceCIDRs
	events   *eventQueue
}

// New returns a Source for a Handler. It reads nothing before Run.
func New(cfg Config, handler source.Handler) *Source {
	if cfg.Problems == nil {
		cfg.Problems = func([]plan.Problem) {}
	}
	return &Source{
		cfg:      cfg,
		handler:  handler,
		services: serviceInformer(cfg.Client),
		slices:   sliceInformer(cfg.Client),
		nodes:    nodeInformer(cfg.Client, cfg.NodeName),
		cidrs:    cidrInformer(cfg.Client),
		nodeSeen: newLatch(),
		noCIDRs:  newLatch(),
		events:   newEventQueue(cfg.Events),
	}
}

// Register registers the Source's metrics.
func (s *Source) Register(r prometheus.Registerer) { r.MustRegister(s.events.count) }

// Run implements source.Source.
func (s *Source) Run(ctx context.Context) error {
	registered, err := s.register()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { s.events.run(ctx) })
	for _, informer := range []cache.SharedIndexInformer{s.services, s.slices, s.nodes, s.cidrs} {
		wg.Go(func() { informer.RunWithContext(ctx) })
	}
	if s.awaitAll(ctx, registered) {
		s.gate.open(s.begin)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// begin makes the first calls, after everything has been read.
func (s *Source) begin() {
	s.handler.Synced()
	if problems := s.Problems(); len(problems) > 0 {
		s.cfg.Problems(problems)
	}
}

// Names implements source.Services.
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

// Service implements source.Services.
func (s *Source) Service(name plan.Name) (plan.Service, []plan.Slice, bool) {
	c, ok := get[plan.Service](s.services, name.String())
	if !ok || !c.Used {
		return plan.Service{}, nil, false
	}
	return c.Value, s.slicesOf(name), true
}

func (s *Source) slicesOf(name plan.Name) []plan.Slice {
	// The only error is that of an unknown index, and this index exists from the start.
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

// Node implements source.Source. A Node that the API server lacks has a name only.
func (s *Source) Node() object.Node {
	if c, ok := get[object.Node](s.nodes, s.cfg.NodeName); ok {
		return c.Value
	}
	return object.Node{Name: s.cfg.NodeName}
}

// ServiceCIDRs implements source.Source. An API server that lacks or hides ServiceCIDRs has none.
func (s *Source) ServiceCIDRs() []netip.Prefix {
	var out []netip.Prefix
	for _, obj := range s.cidrs.GetStore().List() {
		out = append(out, obj.(*object.Cached[object.CIDRs]).Value.Prefixes...)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// Problems implements source.Source: the problems of the Node, of ServiceCIDRs, and of slices without a Service.
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

// get returns a cached object by its key.
func get[T any](informer cache.SharedIndexInformer, key string) (*object.Cached[T], bool) {
	// The store is a map in memory; its error is always nil.
	obj, ok, _ := informer.GetStore().GetByKey(key)
	if !ok {
		return nil, false
	}
	return obj.(*object.Cached[T]), true
}
