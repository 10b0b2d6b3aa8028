//go:build kernel && soak

package survive

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

var soak = flag.Duration("soak", 10*time.Minute, "how long the soak takes")

// A sample is what there is of something whenever all Services are back in their first state.
type sample struct {
	heap, resident, descriptors, goroutines float64
	servers, reals, members                 int    // in the kernel
	slab                                    string // what the kernel has of it: connections that ended stay for two minutes
}

func (s sample) String() string {
	return fmt.Sprintf("heap %.1f MB, resident %.1f MB, %v descriptors, %v goroutines; kernel: %d virtual servers, %d real ones, %d members, slab %s",
		s.heap/1e6, s.resident/1e6, s.descriptors, s.goroutines, s.servers, s.reals, s.members, s.slab)
}

// TestSoak lets Services come, change and go while others connect and now and then somebody flushes the table, and looks
// again and again whether anything grows that should not: in the program or in the kernel.
func TestSoak(t *testing.T) {
	random := rand.New(rand.NewPCG(*seed, 0))
	w := newWorld(t)
	var lasting []service
	for n := range 50 {
		lasting = append(lasting, service{n: n, local: n%10 == 0})
	}
	w.calm(lasting, nil)
	w.start()
	w.settle()
	calls := w.callers(lasting[:1])
	var samples []sample
	changes := 0
	for begin := time.Now(); time.Since(begin) < *soak || len(samples) < 4; {
		there := map[int]bool{}
		for round := time.Now(); time.Since(round) < 8*time.Second; time.Sleep(30 * time.Millisecond) {
			w.shuffle(random, lasting, there)
			changes++
		}
		if len(samples)%4 == 3 {
			w.shell("ipvsadm -C")
		}
		w.calm(lasting, there)
		w.settle()
		samples = append(samples, w.sample(samples))
		t.Logf("%v: %v", time.Since(begin).Round(time.Second), samples[len(samples)-1])
	}
	made, _ := calls() // some fail at each flush
	t.Logf("seed %d: %d rounds with %d changes, %d connections", *seed, len(samples), changes, made)
	// The first round is for what is made once.
	first, last := samples[1], samples[len(samples)-1]
	if last.servers != first.servers || last.reals != first.reals || last.members != first.members {
		t.Errorf("the kernel's objects changed: first %v, last %v", first, last)
	}
	if last.descriptors > first.descriptors+3 || last.goroutines > first.goroutines+3 {
		t.Errorf("descriptors or goroutines grow: first %v, last %v", first, last)
	}
	if last.heap > 1.5*first.heap+4e6 || last.resident > 1.3*first.resident+8e6 {
		t.Errorf("memory grows: first %v, last %v", first, last)
	}
}

// calm brings all Services back to their first state.
func (w *world) calm(lasting []service, there map[int]bool) {
	for n := range there {
		w.folder.remove(service{n: n}.file())
	}
	for _, s := range lasting {
		w.folder.put(s, w.endpoints("pod1", "pod2", "far1")...)
	}
}

// sample waits until as much is in the kernel as the last time, for as long as draining may take, and measures.
func (w *world) sample(before []sample) sample {
	w.t.Helper()
	var s sample
	for begin := time.Now(); time.Since(begin) < 20*time.Second; time.Sleep(500 * time.Millisecond) {
		s.servers, s.reals, s.members = w.number("ipvsadm -Sn | grep -c '^-A'"), w.number("ipvsadm -Sn | grep -c '^-a'"), w.number("ipset save | grep -c '^add'")
		if len(before) > 1 && s.servers == before[1].servers && s.reals == before[1].reals && s.members == before[1].members {
			break
		}
	}
	for name, to := range map[string]*float64{
		"go_memstats_heap_inuse_bytes": &s.heap, "process_resident_memory_bytes": &s.resident, "process_open_fds": &s.descriptors, "go_goroutines": &s.goroutines,
	} {
		var err error
		if *to, err = w.metric(name); err != nil {
			w.t.Error(err)
		}
	}
	s.slab = strings.Join(strings.Fields(w.shell("grep -s ip_vs /proc/slabinfo | cut -c1-45; grep ^Slab /proc/meminfo; true")), " ")
	return s
}

// number runs a command that prints a number.
func (w *world) number(command string) int {
	w.t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(w.shell(command)))
	check(w.t, err)
	return n
}
