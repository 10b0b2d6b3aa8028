package loop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
	"k8s.io/klog/v2"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fake is a data plane that logs what it is told, and a source.
type fake struct {
	mu       sync.Mutex // held by the test but while it waits
	log      []string
	result   Result
	unready  bool // what an update depends on cannot be read
	statuses map[plan.Address]Status
	behind   bool // nothing is programmed
	drift    bool // others changed something
	node     error
	services map[plan.Name]plan.Service
	told     []string
	ended    []error
	queue    *Queue
	loop     *Loop
	seen     *prometheus.Registry
	hang     chan struct{} // Sync waits until it is closed; nil: it does not
	atEnd    func()        // called when the loop has ended
}

func (f *fake) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, fmt.Sprintf(format, args...))
}

func (f *fake) SetNode(n plan.Node, _ []netip.Prefix)      { f.note("node %s", n.Name) }
func (f *fake) UpdateService(*plan.Desired, *plan.Desired) {}
func (f *fake) Invalidate(p Part)                          { f.note("invalidate %b", p) }
func (f *fake) Verify(context.Context) bool                { return locked(f, func() bool { return f.drift }) }
func (f *fake) IsProgrammed(plan.Address) bool             { return locked(f, func() bool { return !f.behind }) }

func (f *fake) Status(a plan.Address) Status {
	return locked(f, func() Status { return f.statuses[a] })
}

func (f *fake) Names() []plan.Name {
	return locked(f, func() []plan.Name { return sorted(keysOf(f.services)) })
}

func (f *fake) Service(n plan.Name) (plan.Service, []plan.Slice, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.services[n]
	return s, nil, ok
}

// locked returns something of a fake.
func locked[T any](f *fake, get func() T) T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return get()
}

func (f *fake) Update(old, now *plan.Frontend) {
	switch {
	case old == nil:
		f.note("add %v", now.Address)
	case now == nil:
		f.note("remove %v", old.Address)
	default:
		f.note("change %v", now.Address)
	}
}

func (f *fake) Sync(_ context.Context, update func()) Result {
	f.note("sync")
	if hang := locked(f, func() chan struct{} { return f.hang }); hang != nil {
		<-hang
	}
	if update != nil && !locked(f, func() bool { return f.unready }) {
		update()
	}
	return locked(f, func() Result {
		result := f.result
		f.result.Changed, f.result.Next = nil, time.Time{}
		return result
	})
}

func keysOf(m map[plan.Name]plan.Service) map[plan.Name]struct{} {
	out := map[plan.Name]struct{}{}
	for name := range m {
		out[name] = struct{}{}
	}
	return out
}

// set gives a Service a cluster IP, and tells the loop.
func (f *fake) set(name, ip string, created int64) {
	n := plan.Name{Namespace: "default", Name: name}
	f.services[n] = plan.Service{
		Name: n, ClusterIPs: []netip.Addr{netip.MustParseAddr(ip)}, Ports: []plan.Port{{Port: 80, Proto: inet.TCP}}, Created: time.Unix(created, 0),
	}
	f.queue.ServiceChanged(n)
}

func (f *fake) remove(name string) {
	n := plan.Name{Namespace: "default", Name: name}
	delete(f.services, n)
	f.queue.ServiceChanged(n)
}

// free lets the loop go on meanwhile.
func (f *fake) free(do func()) {
	f.mu.Unlock()
	defer f.mu.Lock()
	do()
}

// sleep lets time pass.
func (f *fake) sleep(d time.Duration) {
	f.free(func() { time.Sleep(d); synctest.Wait() })
}

// take returns what the data plane was told since the last time.
func (f *fake) take() []string {
	f.free(synctest.Wait)
	out := f.log
	f.log = nil
	return out
}

// run runs a loop on a fake.
func run(t *testing.T, test func(*fake)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{services: map[plan.Name]plan.Service{}, statuses: map[plan.Address]Status{}, queue: NewQueue(), seen: prometheus.NewRegistry(), atEnd: func() {}}
		l := New(Config{
			Source: f, Queue: f.queue, Dataplane: f, LookInterval: time.Second, Metrics: NewMetrics(f.seen, MetricsConfig{Families: []inet.Family{inet.IPv4, inet.IPv6}}),
			Node: func(context.Context) (plan.Node, []netip.Prefix, error) {
				return plan.Node{Name: "node1"}, nil, locked(f, func() error { return f.node })
			},
			Health: func(plan.Name, *plan.Health) {},
			Report: func(n plan.Name, p []plan.Problem) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.told = append(f.told, fmt.Sprint(n, p))
			},
			Converged: func(err error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.ended = append(f.ended, err)
			},
		})
		f.loop = l
		ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), klog.Logger{}))
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		f.mu.Lock()
		test(f)
		f.mu.Unlock()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		f.atEnd()
	})
}

// attempts is how many attempts were measured.
func (f *fake) attempts() uint64 {
	return f.metric("kubeproxy_sync_proxy_rules_duration_seconds").GetHistogram().GetSampleCount()
}

// lastSync is when the last sync that succeeded ended.
func (f *fake) lastSync() float64 {
	return f.metric("kubeproxy_sync_proxy_rules_last_timestamp_seconds").GetGauge().GetValue()
}

// metric returns the first series of a metric, or nil.
func (f *fake) metric(name string) *dto.Metric {
	families, _ := f.seen.Gather()
	for _, m := range families {
		if m.GetName() == name {
			return m.GetMetric()[0]
		}
	}
	return nil
}

func expect(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func TestNothingBeforeSynced(t *testing.T) {
	run(t, func(f *fake) {
		f.set("a", "10.96.0.1", 1)
		f.queue.Note(Kernel | Node)
		f.sleep(time.Hour)
		expect(t, "before", f.take())
		f.queue.Synced()
		expect(t, "synced", f.take(), "invalidate 100", "node node1", "sync", "add 10.96.0.1:80/tcp")
		f.set("a", "10.96.0.1", 1)
		expect(t, "the same again", f.take(), "sync", "change 10.96.0.1:80/tcp")
		f.remove("a")
		expect(t, "removed", f.take(), "sync", "remove 10.96.0.1:80/tcp")
	})
}

// Nothing is wanted before the node is known, and before the data plane is ready for that.
func TestNothingIsPlannedTooEarly(t *testing.T) {
	run(t, func(f *fake) {
		f.node, f.unready = errors.New("no node"), true
		f.set("a", "10.96.0.1", 1)
		f.free(synctest.Wait) // or the loop may take both at once, and wake for the second in vain
		f.queue.Synced()
		expect(t, "no node", f.take(), "sync")
		f.node, f.result.Err, f.result.Blocked = nil, errors.New("unreadable"), true
		f.sleep(retryLeast)
		expect(t, "unready", f.take(), "invalidate 1", "node node1", "sync")
		f.unready, f.result = false, Result{}
		f.sleep(2 * retryLeast)
		expect(t, "ready", f.take(), "invalidate 1", "sync", "add 10.96.0.1:80/tcp")
		if len(f.ended) != 3 || f.ended[0] == nil || f.ended[1] == nil || f.ended[2] != nil {
			t.Errorf("attempts %v", f.ended)
		}
	})
}

// The older Service owns an address; the other gets it when that one goes.
func TestOwners(t *testing.T) {
	run(t, func(f *fake) {
		f.queue.Synced()
		f.take()
		f.set("young", "10.96.0.1", 2)
		expect(t, "the first", f.take(), "sync", "add 10.96.0.1:80/tcp")
		f.set("old", "10.96.0.1", 1)
		expect(t, "an older one", f.take(), "sync", "change 10.96.0.1:80/tcp")
		f.set("young", "10.96.0.1", 2)
		expect(t, "the one that waits", f.take(), "sync")
		f.remove("old")
		expect(t, "the older one is gone", f.take(), "sync", "change 10.96.0.1:80/tcp")
		want := []string{"default/young [Service default/young: cluster IP 10.96.0.1:80 (tcp): is served for the older Service default/old]", "default/young []"}
		if diff := cmp.Diff(want, f.told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

// A result says what becomes of it: errors of single objects make nobody unhealthy, a job's end is waited for, and the next
// sync comes when the data plane wants it.
func TestResults(t *testing.T) {
	run(t, func(f *fake) {
		refused := errors.New("refused")
		f.queue.Synced()
		f.take()
		f.ended, f.result = nil, Result{Err: refused}
		f.set("a", "10.96.0.1", 1)
		f.take()
		if len(f.ended) != 1 || !errors.Is(f.ended[0], ErrObjects) || !errors.Is(f.ended[0], refused) {
			t.Errorf("a single object: %v", f.ended)
		}
		f.ended, f.result = nil, Result{Err: refused, Blocked: true}
		f.sleep(retryLeast)
		if f.take(); len(f.ended) != 1 || errors.Is(f.ended[0], ErrObjects) {
			t.Errorf("blocked: %v", f.ended)
		}
		f.ended, f.result = nil, Result{Busy: true}
		f.set("a", "10.96.0.1", 1)
		if f.take(); len(f.ended) != 0 {
			t.Errorf("busy: %v", f.ended)
		}
		f.sleep(time.Hour) // the retry of before comes, and is busy, too
		f.result = Result{}
		f.queue.Go(func() { time.Sleep(time.Second) })
		f.sleep(time.Second)
		if f.take(); !slices.Equal(f.ended, []error{nil}) {
			t.Errorf("the job has ended: %v", f.ended)
		}
		f.take()
		f.result = Result{Next: time.Now().Add(time.Minute)}
		f.set("a", "10.96.0.1", 1)
		f.take()
		f.sleep(time.Minute - 1)
		expect(t, "before the next", f.take())
		f.sleep(time.Nanosecond)
		expect(t, "next", f.take(), "sync")
		f.sleep(time.Hour)
		expect(t, "nothing more", f.take())
	})
}

// The last sync's time is that of the last one that succeeded, as kube-proxy's: it returns before, if it cannot write its rules. Each
// attempt is measured.
func TestFailuresAreAttempts(t *testing.T) {
	run(t, func(f *fake) {
		refused := errors.New("refused")
		f.set("a", "10.96.0.1", 1)
		f.queue.Synced()
		f.take()
		for _, tt := range []struct {
			name     string
			result   Result
			succeeds bool
		}{
			{"single objects are refused", Result{Err: refused}, true},
			{"nothing can be programmed", Result{Err: refused, Blocked: true}, false},
			{"everything is programmed", Result{}, true},
		} {
			at, attempts := f.lastSync(), f.attempts()
			f.result = tt.result
			f.sleep(time.Second)
			f.set("a", "10.96.0.1", 1)
			f.sleep(10 * time.Minute)
			if f.lastSync() > at != tt.succeeds || f.attempts() == attempts {
				t.Errorf("%s: the last sync is %v s younger, after %d attempts", tt.name, f.lastSync()-at, f.attempts()-attempts)
			}
		}
	})
}

// What becomes of a frontend in the data plane is told to its Service, and taken back.
func TestStatus(t *testing.T) {
	a := plan.Address{Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, Protocol: inet.TCP}
	for name, tt := range map[string]struct {
		status Status
		want   string
	}{
		"refused": {Status{Refused: errors.New("no space")}, "cluster IP 10.96.0.1:80 (tcp): is not served: no space"},
		"limited": {Status{Limited: "some get less"}, "cluster IP 10.96.0.1:80 (tcp): some get less"},
		"family":  {Status{Family: "IPv4 does not work"}, "spec.ipFamilies: IPv4 does not work"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(f *fake) {
				f.set("a", "10.96.0.1", 1)
				f.queue.Synced()
				f.take()
				for _, status := range []Status{tt.status, {}} {
					f.statuses[a], f.result.Changed = status, []plan.Address{a}
					f.queue.Note(Kernel)
					f.take()
				}
				expect(t, "told", f.told, "default/a [Service default/a: "+tt.want+"]", "default/a []")
			})
		})
	}
}

func TestDriftLeadsToASync(t *testing.T) {
	run(t, func(f *fake) {
		f.queue.Synced()
		f.sleep(time.Minute)
		f.take()
		f.drift = true
		f.sleep(time.Second)
		expect(t, "drift", f.take(), "sync")
	})
}
