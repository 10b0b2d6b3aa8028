package ipvsmode

import (
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

var (
	histories    = flag.Int("histories", 200, "how many random histories are played")
	firstHistory = flag.Uint64("history", 1, "the number of the first one, which decides all that happens in it")
)

// Whatever happens, in whatever order, and whatever of it fails: nothing is unsound at any moment, and in the end all is as it
// would be had the loop only just been started.
func TestHistories(t *testing.T) {
	for n := *firstHistory; n < *firstHistory+uint64(*histories) && !t.Failed(); n++ {
		synctest.Test(t, func(t *testing.T) {
			h := newHistory(t, n)
			h.play()
			h.end()
			if t.Failed() {
				t.Logf("history %d: bind %v, refused %v, lost %v", n, h.bind, h.refused, h.lost)
			}
		})
	}
}

// A history is what happens to a rig. Its number decides all of it.
type history struct {
	*rig
	*rand.Rand
	number        uint64
	bind          bool
	refused, lost bool // some calls are refused, some answers are lost
	stop          func()
	told          map[plan.Name][]plan.Problem
	counting      sync.Mutex
	times         map[string]int // how often each call was made
}

// services is how many Services there are at most, few enough that they get in each other's way.
const services = 6

func newHistory(t *testing.T, number uint64) *history {
	h := &history{rig: newRig(t), Rand: rand.New(rand.NewPCG(number, 0)), number: number, times: map[string]int{}}
	h.families = []inet.Family{inet.IPv4, inet.IPv6}
	own := netip.MustParseAddr("fd00::192")
	h.node.Own, h.node.Addresses = append(h.node.Own, own), append(h.node.Addresses, own)
	h.bind = h.IntN(3) == 0
	h.adjust = func(c *Config) { c.Plan.Bind, c.DrainLimit = h.bind, 10*time.Second }
	if h.IntN(4) == 0 {
		h.lookInterval = loop.LookInterval
	}
	h.refused, h.lost = h.IntN(2) == 0, h.IntN(2) == 0
	return h
}

// play starts the loop and lets things happen.
func (h *history) play() {
	for n := range services {
		h.changeService(n)
	}
	if h.refused {
		h.let(h.fails("refused"))
	}
	if h.lost {
		h.forget(h.fails("lost"))
	}
	h.watch()
	h.begin()
	for range 30 {
		h.step()
	}
}

// step lets one thing happen. What others do to the kernel they do between the loop's passes, or nobody could tell whose
// doing the outcome is; Services change at any time.
func (h *history) step() {
	hands := []func() loop.Changed{h.killed, h.serversGo, h.membersGo, h.setGoes, h.linkGoes, h.rulesGo, h.foreignComes, h.foreignGoes}
	switch n := h.IntN(20); {
	case n < len(hands):
		synctest.Wait()
		changed := hands[n]()
		if changed != 0 {
			h.watch()
			h.queue.Note(changed)
		}
	case n == 8:
		synctest.Wait()
		h.connect()
	case n == 9:
		h.readdress()
	case n == 10:
		time.Sleep(time.Duration(h.IntN(5000)) * time.Millisecond)
	default:
		for range 1 + h.IntN(3) {
			h.queue.ServiceChanged(h.changeService(h.IntN(services)))
		}
	}
}

// begin starts a loop that has told nobody anything yet.
func (h *history) begin() {
	told := map[plan.Name][]plan.Problem{}
	h.told = told
	h.report = func(name plan.Name, p []plan.Problem) {
		if told[name] = p; len(p) == 0 {
			delete(told, name)
		}
	}
	h.stop = h.start()
	h.queue.Synced()
}

// fails returns what fails of all calls: an eighth, whatever the order in which they are made.
func (h *history) fails(how string) func(string) error {
	return func(what string) error {
		h.counting.Lock()
		defer h.counting.Unlock()
		h.times[how+what]++
		hash := fnv.New64a()
		fmt.Fprint(hash, h.number, how, what, h.times[how+what])
		if hash.Sum64()>>7%8 == 0 {
			return errRefused
		}
		return nil
	}
}

// end lets nothing fail any more, and compares with a loop that starts with what there is then.
func (h *history) end() {
	h.let(nil)
	h.forget(nil)
	time.Sleep(retryMost)
	for k, e := range h.ipvs.Table() {
		for at := range e.Reals {
			if !h.foreign[k] {
				h.ipvs.SetConnections(ipvs.RealKeyOf(k, at), 0, 0)
			}
		}
	}
	time.Sleep(pauseMost + retryMost) // rules are checked by then, however often those of the other family were written
	attempts := h.attempts()
	if err := attempts[len(attempts)-1]; err != nil && !errors.Is(err, errForeign) {
		h.t.Errorf("at the end: %v", err)
	}
	if n := h.metric("kube_ipvs_draining_real_servers").GetGauge().GetValue(); n != 0 {
		h.t.Errorf("at the end: %v real servers drain", n)
	}
	h.stop()
	if left := h.dry(h.adjust); left != nil {
		h.t.Errorf("a start would still do\n%s", strings.Join(left, "\n"))
	}

	fresh := &history{rig: newRig(h.t)}
	fresh.families, fresh.services, fresh.slices, fresh.node, fresh.adjust = h.families, h.services, h.slices, h.node, h.adjust
	for k := range h.foreign {
		fresh.direct(k)
	}
	fresh.begin()
	synctest.Wait()
	fresh.stop()
	if diff := cmp.Diff(fresh.holds(), h.holds()); diff != "" {
		h.t.Errorf("the kernel (-after a fresh start, +at the end):\n%s", diff)
	}
	if diff := cmp.Diff(fresh.told, h.told); diff != "" {
		h.t.Errorf("told (-after a fresh start, +at the end):\n%s", diff)
	}
}
