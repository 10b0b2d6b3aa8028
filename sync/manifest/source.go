// Package manifest implements source.Source on a directory of YAML and JSON files, without a cluster: it reads Services,
// EndpointSlices, Nodes and ServiceCIDRs, watches the directory, and notifies a Handler of changes.
//
// It reads every regular file of the directory whose name ends in .yaml, .yml or .json and does not begin with a dot;
// subdirectories are ignored. A file holds any number of documents; the items of a List count as documents. The API
// server's defaults are filled in, except allocated ones: addresses and node ports must be written down.
//
// A mistake costs its document, with a Problem that names it, and takes nothing down: while a file has an unusable
// document, is empty or cannot be read, the objects of its earlier version stay in force unless a good document replaces
// them. Removing a file, or a document from a file without mistakes, removes its objects. A directory that is unreadable
// or gone changes nothing.
package manifest

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source"
)

// poll is the interval of reads without a notification: some file systems send none, and files may be links to
// elsewhere.
const poll = 30 * time.Second

// A Source implements source.Source on a directory.
type Source struct {
	directory directory
	node      string
	handler   source.Handler
	report    source.Problems // nil: not called

	now atomic.Pointer[snapshot]
}

// New returns a Source for a Handler, and for Problems, which may be nil. It reads nothing before Run.
func New(dir, nodeName string, handler source.Handler, report source.Problems) *Source {
	s := &Source{directory: newDirectory(dir), node: nodeName, handler: handler, report: report}
	s.now.Store(assemble(nil, nodeName))
	return s
}

// Run implements source.Source. The directory may appear later.
func (s *Source) Run(ctx context.Context) error {
	w, err := newWatcher(s.directory.dir)
	if err != nil {
		return fmt.Errorf("watch %s: %w", s.directory.dir, err)
	}
	defer w.close()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for synced, first := false, true; ; first = false {
		// The watch begins before the reading, so that no change falls in between.
		watching := w.follow()
		if err := s.directory.read(); err != nil && first {
			klog.FromContext(ctx).Info("Waiting for the directory of manifests", "reason", err)
		}
		synced = s.deliver(watching, synced)
		if err := w.wait(ctx, ticker.C); err != nil {
			return err
		}
	}
}

// deliver publishes the content that was read and notifies the handler. It reports whether the source is synced.
func (s *Source) deliver(watching error, synced bool) bool {
	now, before := assemble(&s.directory, s.node), s.now.Load()
	if watching != nil {
		now.problems = append(now.problems, plan.Problem{Object: s.directory.dir, Field: ".", Note: true,
			Reason: fmt.Sprintf("cannot be watched, and is read every %v: %v", poll, watching)})
	}
	s.now.Store(now)
	switch {
	case synced:
		s.notify(before, now)
	case s.directory.known:
		s.handler.Synced()
		s.reportAfter(nil, now.problems)
	}
	return s.directory.known
}

// notify notifies the handler of the difference between two snapshots.
func (s *Source) notify(before, now *snapshot) {
	for _, name := range now.changed(before) {
		s.handler.ServiceChanged(name)
	}
	if !object.SameNode(before.node, now.node) || !slices.Equal(before.cidrs, now.cidrs) {
		s.handler.NodeChanged()
	}
	s.reportAfter(before.problems, now.problems)
}

// reportAfter reports the problems if they are not as before.
func (s *Source) reportAfter(before, now []plan.Problem) {
	if s.report != nil && !slices.Equal(before, now) {
		s.report(now)
	}
}

// Names implements source.Services.
func (s *Source) Names() []plan.Name {
	return slices.Collect(maps.Keys(s.now.Load().services))
}

// Service implements source.Services.
func (s *Source) Service(name plan.Name) (plan.Service, []plan.Slice, bool) {
	now := s.now.Load()
	svc, ok := now.services[name]
	if !ok {
		return plan.Service{}, nil, false
	}
	return svc, now.slices[name], true
}

// Node implements source.Source. A node without a file has its name, and load balancers may use it.
func (s *Source) Node() object.Node { return s.now.Load().node }

// ServiceCIDRs implements source.Source.
func (s *Source) ServiceCIDRs() []netip.Prefix { return s.now.Load().cidrs }

// Problems implements source.Source: the unusable parts of the files, by file and document.
func (s *Source) Problems() []plan.Problem { return s.now.Load().problems }
