package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"kube-ipvs/sync/manifest"
	"kube-ipvs/sync/plan"
)

// A source is the objects of a step, as the manifest source reads them.
type source struct {
	mu  sync.Mutex
	now *manifest.Source
}

func (s *source) set(now *manifest.Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
}

func (s *source) get() *manifest.Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *source) Names() []plan.Name { return s.get().Names() }
func (s *source) Service(name plan.Name) (plan.Service, []plan.Slice, bool) {
	return s.get().Service(name)
}

// synced is a sink that waits for the first reading.
type synced chan struct{}

func (c synced) Synced()                  { close(c) }
func (synced) ServiceChanged(plan.Name)   {}
func (synced) EndpointsChanged(plan.Name) {}
func (synced) NodeChanged()               {}

// load reads the objects of a step through a folder.
func (s *scenario) load(t *testing.T, o objects) *manifest.Source {
	t.Helper()
	dir := t.TempDir()
	for id, doc := range o {
		name := strings.NewReplacer(" ", "-", "/", "-").Replace(id) + ".yaml"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(synced)
	m := manifest.New(dir, s.flags.node, done, nil)
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	select {
	case <-done:
		cancel()
		<-ended
	case err := <-ended:
		t.Fatal(err)
	}
	for _, p := range m.Problems() {
		t.Errorf("%v", p)
	}
	return m
}

// changed returns the Services that differ between two states.
func changed(before, now *manifest.Source) []plan.Name {
	type state struct {
		svc plan.Service
		in  []plan.Slice
		ok  bool
	}
	at := func(m *manifest.Source, name plan.Name) (s state) {
		s.svc, s.in, s.ok = m.Service(name)
		return s
	}
	names := slices.Concat(before.Names(), now.Names())
	slices.SortFunc(names, plan.Name.Compare)
	return slices.DeleteFunc(slices.Compact(names), func(name plan.Name) bool {
		return reflect.DeepEqual(at(before, name), at(now, name))
	})
}

// cidrs returns the ranges of cluster IPs.
func (s *scenario) cidrs(m *manifest.Source) []netip.Prefix {
	if found := m.ServiceCIDRs(); len(found) > 0 {
		return found
	}
	return list(s.flags.serviceCIDRs, netip.MustParsePrefix)
}

// A connection is how many connections a real server has.
type connection struct {
	server, real     string
	active, inactive uint32
}

// parseConnections reads lines such as "tcp 10.96.0.10:80 -> 10.244.1.2:8080 active 3 inactive 0".
func parseConnections(text string) ([]connection, error) {
	var out []connection
	for line := range lines(text) {
		var c connection
		server, rest, ok := strings.Cut(line, " -> ")
		n, err := fmt.Sscanf(rest, "%s active %d inactive %d", &c.real, &c.active, &c.inactive)
		if !ok || n != 3 {
			return nil, fmt.Errorf("%q: %v", line, err)
		}
		c.server = server
		out = append(out, c)
	}
	return out, nil
}
