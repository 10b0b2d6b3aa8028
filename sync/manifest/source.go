// Package manifest reads Services, EndpointSlices, Nodes and ServiceCIDRs from a folder of YAML and JSON files, in place of
// an API server: no cluster is needed. It watches the folder and tells a Sink what changed.
//
// Every regular file of the folder whose name ends in .yaml, .yml or .json and does not begin with a dot is read; folders
// in it are not. A file holds any number of documents; a List holds objects as if each were a document. What the API
// server would fill in is filled in, as far as it can be: addresses and node ports are allocated by nobody, and have to be
// written down.
//
// A mistake costs the document that it is in, with a Problem that names it. It takes nothing down: while a file has a
// document that cannot be used, or is empty or cannot be read at all, what it supplied before and no good document supplies stays in
// force. Removing a file, or a document from a file without mistakes, removes its objects. A folder that cannot be read,
// or is gone, changes nothing.
package manifest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// Poll is how often the folder is read without being told to: for file systems that tell nothing, and for files that
// are links to elsewhere.
const poll = 30 * time.Second

// A Sink is told what changed. Its methods are called one at a time, by Run, and must return soon; they may call the
// Source's. Nothing is called before Synced, which says, once, that the folder was read and all of Names is news.
type Sink interface {
	Synced()
	ServiceChanged(plan.Name) // the Service, or one of its slices, came, changed or went
	NodeChanged()             // the Node or the service CIDRs changed
	ProblemsChanged()         // what Problems returns changed
}

// A Source is the Services that a folder holds, and what belongs to them. What its methods return is shared and must not
// be changed; they may be called at any time from any goroutine, and what they say before Synced means nothing.
type Source struct {
	folder folder
	node   string
	sink   Sink

	now atomic.Pointer[snapshot]
}

// New returns a Source that reads nothing before Run.
func New(dir, nodeName string, sink Sink) *Source {
	s := &Source{folder: newFolder(dir), node: nodeName, sink: sink}
	s.now.Store(assemble(nil, nodeName))
	return s
}

// Run reads the folder whenever it changes, until the context is done, and returns its error then. The folder may appear
// later. Run runs once.
func (s *Source) Run(ctx context.Context) error {
	w, err := newWatcher(s.folder.dir)
	if err != nil {
		return fmt.Errorf("watch %s: %w", s.folder.dir, err)
	}
	defer w.close()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for synced, first := false, true; ; first = false {
		// The watch begins before the reading, so that no change falls in between.
		watching := w.follow()
		if err := s.folder.read(); err != nil && first {
			klog.FromContext(ctx).Info("Waiting for the folder of manifests", "reason", err)
		}
		synced = s.deliver(watching, synced)
		if err := w.wait(ctx, ticker.C); err != nil {
			return err
		}
	}
}

// deliver makes what was read the present, and says whether the sink was ever told that there is something.
func (s *Source) deliver(watching error, synced bool) bool {
	now, before := assemble(&s.folder, s.node), s.now.Load()
	if watching != nil {
		now.problems = append(now.problems, plan.Problem{Object: s.folder.dir, Field: ".", Note: true,
			Reason: fmt.Sprintf("cannot be watched, and is read every %v: %v", poll, watching)})
	}
	s.now.Store(now)
	switch {
	case synced:
		s.tell(before, now)
	case s.folder.known:
		s.sink.Synced()
	}
	return s.folder.known
}

// tell tells the sink how two states differ.
func (s *Source) tell(before, now *snapshot) {
	for _, name := range now.changed(before) {
		s.sink.ServiceChanged(name)
	}
	if !object.SameNode(before.node, now.node) || !slices.Equal(before.cidrs, now.cidrs) {
		s.sink.NodeChanged()
	}
	if !slices.Equal(before.problems, now.problems) {
		s.sink.ProblemsChanged()
	}
}

// Names returns every Service that is to be served, in no order.
func (s *Source) Names() []plan.Name {
	now := s.now.Load()
	out := make([]plan.Name, 0, len(now.services))
	for name := range now.services {
		out = append(out, name)
	}
	return out
}

// Service returns a Service with its slices, those in the order of their names. It is false if there is no such Service,
// or none to be served.
func (s *Source) Service(name plan.Name) (plan.Service, []plan.Slice, bool) {
	now := s.now.Load()
	svc, ok := now.services[name]
	if !ok {
		return plan.Service{}, nil, false
	}
	return svc, now.slices[name], true
}

// Node returns this node. One that no file describes has its name, and load balancers may use it.
func (s *Source) Node() object.Node { return s.now.Load().node }

// ServiceCIDRs returns the ranges that cluster IPs are taken from, in order.
func (s *Source) ServiceCIDRs() []netip.Prefix { return s.now.Load().cidrs }

// Problems returns what could not be used of the files, by file and document. Services and slices that are served carry
// their own.
func (s *Source) Problems() []plan.Problem { return s.now.Load().problems }
