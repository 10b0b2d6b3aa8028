package ipvsmode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// One object that the kernel refuses is its own affair. A layer of which it refuses everything, or everything new, is the
// node's.
func TestWhatMakesANodeUnhealthy(t *testing.T) {
	server := func(n int) string { return fmt.Sprintf("10.96.0.%d:80 -s rr", n) }
	refuse := func(numbers ...int) func(string) error {
		return func(what string) error {
			for _, n := range numbers {
				if strings.HasPrefix(what, "ipvsadm -A ") && strings.HasSuffix(what, server(n)) {
					return errRefused
				}
			}
			return nil
		}
	}
	all := func(what string) error {
		if strings.HasPrefix(what, "ipvsadm -A ") {
			return errRefused
		}
		return nil
	}
	span := func(from, to int) (out []int) {
		for n := from; n <= to; n++ {
			out = append(out, n)
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		before []int // Services that are there when the kernel begins to refuse
		after  []int // and those that come then
		refuse func(string) error
		again  []int // Services that come a minute later, and are not refused
		want   bool
	}{
		{"one of one", nil, span(1, 1), all, nil, true},
		{"one of many", nil, span(1, 20), refuse(7), nil, true},
		{"many of more, from the start", nil, span(1, 60), refuse(span(1, 30)...), nil, true},
		{"all of a few", nil, span(1, 3), all, nil, false},
		{"one new one", span(1, 20), span(21, 21), all, nil, true},
		{"a few new ones", span(1, 20), span(21, 25), all, nil, true},
		{"many new ones, and all of them", span(1, 20), span(21, 35), all, nil, false},
		{"many new ones, but others are not refused later", span(1, 20), span(21, 35), refuse(span(21, 35)...), span(40, 40), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				for _, n := range tt.before {
					r.set(n, pods(byte(n)))
				}
				r.start()
				r.queue.Synced()
				time.Sleep(time.Minute)
				r.attempts()
				r.let(tt.refuse)
				for _, n := range tt.after {
					r.change(n, pods(byte(n)))
				}
				time.Sleep(time.Minute)
				for _, n := range tt.again {
					r.change(n, pods(byte(n)))
				}
				time.Sleep(time.Minute)
				attempts := r.attempts()
				if last := attempts[len(attempts)-1]; last == nil || errors.Is(last, loop.ErrObjects) != tt.want {
					t.Errorf("the last attempt ended with %v", last)
				}
				r.let(nil)
				time.Sleep(time.Minute)
				attempts = r.attempts()
				if last := attempts[len(attempts)-1]; last != nil {
					t.Errorf("in the end: %v", last)
				}
			})
		})
	}
}

// What fails for hours in the same way is logged once in a while, and told as a problem of the node where another program is
// in the way.
func TestForeignRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var log lines
		log.on(r)
		var told [][]plan.Problem
		r.adjust = func(c *Config) { c.NodeProblems = func(p []plan.Problem) { told = append(told, p) } }
		r.let(func(what string) error {
			if strings.Contains(what, "ip route add local 10.96.0.0/12") {
				return fmt.Errorf("%w: another program's, left alone", os.ErrExist)
			}
			return nil
		})
		r.set(1, pods(1))
		r.start()
		r.queue.Synced()
		time.Sleep(time.Hour + time.Minute)
		if said := log.take(); len(said) != 7 {
			t.Errorf("%d lines in an hour: %q", len(said), said)
		}
		if len(told) != 1 || len(told[0]) != 1 || told[0][0].Object != "Node node1" || !strings.Contains(told[0][0].Reason, "10.96.0.0/12") {
			t.Errorf("told of the node: %v", told)
		}
		r.let(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(told) != 2 || len(told[1]) != 0 {
			t.Errorf("told of the node when the route is gone: %v", told)
		}
		// The same failure, after all was well, is news.
		log.take()
		r.let(refusing("ipvsadm -A -t 10.96.0.2:80 -s rr"))
		for n := range 2 {
			r.change(2, pods(2))
			time.Sleep(time.Minute)
			r.remove(2)
			time.Sleep(time.Minute)
			if said := log.take(); len(said) != 1 {
				t.Errorf("time %d that a failure is news: %q", n+1, said)
			}
		}
	})
}

// A setting that would do harm is left as it is, and is a problem of the node; it is made when it does none any more.
func TestWithhold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const name = "net/ipv4/ip_forward"
		r := newRig(t)
		settings := sysctl.NewFake(sysctl.Setting{Name: name, Value: "0"})
		var harmless atomic.Bool
		var told [][]plan.Problem
		r.adjust = func(c *Config) {
			c.Sysctl = settings
			c.Forwarding = map[inet.Family][]sysctl.Setting{inet.IPv4: {{Name: name, Value: "1"}}}
			c.Withhold = func(context.Context, sysctl.Setting) error {
				if harmless.Load() {
					return nil
				}
				return errors.New("would do harm")
			}
			c.NodeProblems = func(p []plan.Problem) { told = append(told, p) }
		}
		r.start()
		r.queue.Synced()
		time.Sleep(time.Hour)
		if synctest.Wait(); len(told) != 0 {
			t.Errorf("told before the setting is needed: %v", told)
		}
		r.change(1, pods(1))
		time.Sleep(time.Hour)
		synctest.Wait()
		want := plan.Problem{Object: "Node node1", Field: "net.ipv4.ip_forward", Reason: "would do harm", Here: true}
		if diff := cmp.Diff([][]plan.Problem{{want}}, told); diff != "" || settings.Ops() != 0 {
			t.Errorf("%d settings made; told (-want +got):\n%s", settings.Ops(), diff)
		}
		if attempts := r.attempts(); !good(attempts) {
			t.Errorf("the node is unhealthy: %v", attempts[len(attempts)-1])
		}
		harmless.Store(true)
		time.Sleep(2 * time.Minute)
		if synctest.Wait(); settings.Ops() != 1 || len(told) != 2 || len(told[1]) != 0 {
			t.Errorf("%d settings made when it does no harm any more; told %v", settings.Ops(), told)
		}
	})
}

// A slowSets takes its time for everything.
type slowSets struct {
	ipset.Kernel
	time *atomic.Int64
}

func (s slowSets) Read(ctx context.Context, set ipset.Set) (map[ipset.Member]ipset.Mark, error) {
	time.Sleep(time.Duration(s.time.Load()))
	return s.Kernel.Read(ctx, set)
}

func (s slowSets) Do(ctx context.Context, ops []ipset.Op) []error {
	time.Sleep(time.Duration(s.time.Load()))
	return s.Kernel.Do(ctx, ops)
}

// A first sync that takes long has a beat all the time, and so has a loop with nothing to do; one that is stuck has none.
func TestBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.lookInterval = loop.LookInterval
		var mu sync.Mutex
		last, longest := time.Now(), time.Duration(0)
		var slow atomic.Int64
		slow.Store(int64(20 * time.Second))
		r.adjust = func(c *Config) {
			c.Sets = slowSets{c.Sets, &slow}
			c.Beat = func() {
				mu.Lock()
				defer mu.Unlock()
				longest = max(longest, time.Since(last))
				last = time.Now()
			}
		}
		for n := range 2500 {
			r.set(n, pods(1))
		}
		r.start()
		time.Sleep(time.Minute) // the sources say nothing
		r.queue.Synced()
		time.Sleep(3 * time.Minute)
		if synctest.Wait(); len(r.attempts()) != 0 {
			t.Error("the first sync is over after three minutes")
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		mu.Lock()
		if longest > 21*time.Second {
			t.Errorf("at times no beat for %v", longest)
		}
		mu.Unlock()
		slow.Store(0)
		time.Sleep(time.Minute)
		slow.Store(int64(10 * time.Minute))
		r.queue.Note(loop.Kernel)
		time.Sleep(time.Minute)
		slow.Store(0)
		synctest.Wait()
		mu.Lock()
		if time.Since(last) < 59*time.Second {
			t.Errorf("a loop that is stuck had a beat %v ago", time.Since(last))
		}
		mu.Unlock()
		time.Sleep(11 * time.Minute)
	})
}
