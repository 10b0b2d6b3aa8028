package scenario

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/sync/manifest"
)

var update = flag.Bool("update", false, "write what is found into the scenarios")

// patience is how long a loop may take, in the time of its back-off, that is hindered again and again.
const patience = 10 * time.Minute

// rest waits until the loop has nothing to do: what it does not wait for takes moments, and what failed is tried again later.
func rest() {
	time.Sleep(time.Millisecond)
	synctest.Wait()
}

// settle waits until the loop says that all is well, and fails if it does not.
func (r *run) settle() {
	r.t.Helper()
	rest()
	for start := time.Now(); time.Since(start) < patience; time.Sleep(time.Second) {
		if ok, _ := r.state(); ok {
			rest()
			return
		}
	}
	_, err := r.state()
	r.t.Fatalf("not converged after %v: %v", patience, err)
}

// TestScenarios plays every scenario without any failure: the state after each step, and exactly what it cost.
func TestScenarios(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name(), func(t *testing.T) {
			states := s.loadAll(t)
			synctest.Test(t, func(t *testing.T) { s.play(t, states) })
			if *update && !t.Failed() {
				s.write(t)
			}
		})
	}
}

func (s *scenario) play(t *testing.T, states []*manifest.Source) {
	r := newRun(t, s, states, fakes())
	defer func() { r.stop() }()
	for i, step := range s.steps {
		r.enter(i)
		r.settle()
		if pending := r.pending(); pending != nil {
			t.Errorf("step %d: the loop says that all is well, with %v", i, pending)
		}
		found := r.dump()
		found["ops"] = ""
		if ops := r.trace.take(); i > 0 {
			found["ops"] = strings.Join(append(ops, ""), "\n")
		}
		if *update {
			s.expect(step.suffix, found)
			continue
		}
		s.compare(t, step.suffix, found)
	}
}

// compare compares what was found with the sections of a step. Those of the start must all be there, or are empty.
func (s *scenario) compare(t *testing.T, suffix string, found map[string]string) {
	t.Helper()
	for _, name := range expects {
		want, there := s.find(name + suffix)
		if !there && name != "ops" && (suffix != "" || name == "ledger") {
			continue
		}
		if diff := cmp.Diff(plain(want), plain(found[name])); diff != "" {
			t.Errorf("%s%s (-want +got):\n%s", name, suffix, diff)
		}
	}
}

// plain is a text without comments, which only people read.
func plain(text string) string {
	return strings.Join(slices.Collect(lines(text)), "\n")
}

// states plays a scenario without any failure and returns what it leaves after each step, and how many calls each step
// made.
func (s *scenario) played(t *testing.T, states []*manifest.Source) (dumps []map[string]string, calls []int) {
	r := newRun(t, s, states, fakes())
	defer func() { r.stop() }()
	for i := range s.steps {
		r.enter(i)
		r.settle()
		dumps = append(dumps, r.dump())
		calls = append(calls, len(r.trace.take()))
	}
	return dumps, calls
}

// TestScenariosThoughATenthFails plays every scenario while a tenth of all operations and readings fail, half of them
// after they were carried out. Whenever the loop says that all is well it must be.
func TestScenariosThoughATenthFails(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name(), func(t *testing.T) {
			states := s.loadAll(t)
			for seed := range uint64(5) {
				synctest.Test(t, func(t *testing.T) { s.playFlaky(t, states, seed) })
			}
		})
	}
}

func (s *scenario) playFlaky(t *testing.T, states []*manifest.Source, seed uint64) {
	want, _ := s.played(t, states)
	r := newRun(t, s, states, fakes())
	defer func() { r.stop() }()
	random := rand.New(rand.NewPCG(seed, 0))
	r.trace.judged(func(int, string) verdict {
		if random.Float64() < 0.1 {
			return refused + verdict(random.IntN(2))
		}
		return goesWell
	})
	for i := range s.steps {
		r.enter(i)
		r.settle()
		if diff := cmp.Diff(want[i], r.dump()); diff != "" {
			t.Fatalf("seed %d, step %d (-want +got):\n%s", seed, i, diff)
		}
	}
}

// most is how many of a step's calls are tried one by one.
const most = 40

// points returns which calls to try: all, or as many as there is time for.
func points(calls int) []int {
	var out []int
	for n := 1; n <= calls; n += max(1, (calls+most-1)/most) {
		out = append(out, n)
	}
	return out
}

// TestScenariosThoughOneCallFails lets each call of each step fail once, before and after it was carried out.
func TestScenariosThoughOneCallFails(t *testing.T) {
	s3 := scenarios(t)
	for _, s := range s3 {
		t.Run(s.name(), func(t *testing.T) {
			states := s.loadAll(t)
			s.eachCall(t, states, func(t *testing.T, r *run, i, n int, want []map[string]string) {
				for _, v := range []verdict{refused, unheard} {
					r := newRun(t, s, states, fakes())
					r.upTo(i)
					r.trace.judged(func(at int, _ string) verdict {
						if at == n {
							return v
						}
						return goesWell
					})
					r.enter(i)
					r.settle()
					r.equals(want[i], "step %d, call %d failed (%d)", i, n, v)
					r.stop()
				}
			})
		})
	}
}

// eachCall calls fn for the calls of each step, in a bubble of its own.
func (s *scenario) eachCall(t *testing.T, states []*manifest.Source, fn func(t *testing.T, r *run, i, n int, want []map[string]string)) {
	var want []map[string]string
	var calls []int
	synctest.Test(t, func(t *testing.T) { want, calls = s.played(t, states) })
	for i := range s.steps {
		for _, n := range points(calls[i]) {
			synctest.Test(t, func(t *testing.T) { fn(t, nil, i, n, want) })
			if t.Failed() {
				return
			}
		}
	}
}

// upTo plays the steps before a step without failures.
func (r *run) upTo(i int) {
	for before := range i {
		r.enter(before)
		r.settle()
		r.trace.take()
	}
}

func (r *run) equals(want map[string]string, format string, args ...any) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.dump()); diff != "" {
		r.t.Errorf("%s (-want +got):\n%s", fmt.Sprintf(format, args...), diff)
	}
}

// TestScenariosThoughKilled kills the loop before each call of each step. The one that is started then must end in the
// same state; and if every Service was deleted meanwhile, with nothing left over.
func TestScenariosThoughKilled(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name(), func(t *testing.T) {
			states := s.loadAll(t)
			nothing := s.load(t, objects{})
			var leftover map[string]string
			synctest.Test(t, func(t *testing.T) { leftover = s.strangers(t) })
			s.eachCall(t, states, func(t *testing.T, _ *run, i, n int, want []map[string]string) {
				r := newRun(t, s, states, fakes())
				r.killedAt(i, n)
				r.start()
				time.Sleep(s.steps[i].wait)
				r.settle()
				if diff := cmp.Diff(want[i], r.dump()); diff != "" {
					t.Errorf("killed in step %d before call %d (-want +got):\n%s", i, n, diff)
				}
				r.stop()

				r = newRun(t, s, states, fakes())
				r.killedAt(i, n)
				r.source.set(nothing)
				r.cidrs = s.cidrs(nothing)
				r.start()
				r.settle()
				found := r.dump()
				if diff := cmp.Diff(leftover["ipvs"]+leftover["sets"]+leftover["ledger"], found["ipvs"]+found["sets"]+found["ledger"]); diff != "" {
					t.Errorf("killed in step %d before call %d, left over (-want +got):\n%s", i, n, diff)
				}
				r.stop()
			})
		})
	}
}

// killedAt plays up to the n-th call of a step.
func (r *run) killedAt(i, n int) {
	r.upTo(i)
	r.trace.judged(func(at int, _ string) verdict {
		if at < n {
			return goesWell
		}
		return refused
	})
	r.enter(i)
	rest()
	r.stop()
	r.trace.judged(nil)
}

// strangers returns what a kernel holds that only others ever touched.
func (s *scenario) strangers(t *testing.T) map[string]string {
	kernel := fakes()
	for _, step := range s.steps {
		for _, c := range step.byHand {
			if !c.ours() {
				if err := kernel.carryOut(c); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return kernel.dump(t, s.flags)
}
