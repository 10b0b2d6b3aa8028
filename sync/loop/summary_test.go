package loop

import (
	"context"
	"fmt"
	"testing"
	"time"

	"kube-ipvs/sync/plan"
)

// summarize asks for a summary.
func (f *fake) summarize(t *testing.T, quiet time.Duration) (out Summary) {
	t.Helper()
	var err error
	f.free(func() { out, err = f.loop.Summary(context.Background(), quiet) })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSummary(t *testing.T) {
	run(t, func(f *fake) {
		for _, step := range []struct {
			name string
			do   func()
			want string // services, waiting, parts that are not served, conflicts
		}{
			{"before all is listed", func() { f.set("a", "10.96.0.1", 1) }, "0 1 0 0"},
			{"planned", f.queue.Synced, "1 0 0 0"},
			{"a conflict", func() { f.set("b", "10.96.0.1", 2) }, "2 0 1 1"},
			{"the same again", func() { f.set("b", "10.96.0.1", 2) }, "2 0 1 1"},
			{"the other one goes", func() { f.remove("a") }, "1 0 0 0"},
			{"both", func() { f.set("a", "10.96.0.1", 1) }, "2 0 1 1"},
			{"the one that is not served goes", func() { f.remove("b") }, "1 0 0 0"},
		} {
			step.do()
			f.take()
			s := f.summarize(t, 0)
			if got := fmt.Sprint(s.Services, s.Waiting, s.Unserved, s.Conflicts); got != step.want {
				t.Errorf("%s: %s, want %s", step.name, got, step.want)
			}
		}
	})
}

// The sums of two nodes are the same if the Services are, in whatever order they came; a group that changed lately has none.
func TestSums(t *testing.T) {
	sums := func(tell func(*fake)) (out []uint32) {
		run(t, func(f *fake) {
			tell(f)
			out = f.summarize(t, time.Minute).Sums
		})
		return out
	}
	differ := func(a, b []uint32) (groups []int) {
		for g := range a {
			if a[g] != b[g] {
				groups = append(groups, g)
			}
		}
		return groups
	}
	group := func(name string) string {
		return fmt.Sprint([]int{groupOf(plan.Name{Namespace: "default", Name: name})})
	}
	begin := func(names ...string) func(*fake) {
		return func(f *fake) {
			for _, name := range names {
				f.set(name, "10.96.0.1", 1)
			}
			f.queue.Synced()
			f.sleep(time.Minute)
		}
	}
	before := sums(begin("a", "b"))
	for _, tt := range []struct {
		name string
		tell func(*fake)
		want string // groups that differ
	}{
		{"the same in another order", func(f *fake) { begin("b")(f); f.set("a", "10.96.0.1", 1); f.sleep(time.Minute) }, "[]"},
		{"one came and went", func(f *fake) { begin("a", "b", "c")(f); f.remove("c"); f.sleep(time.Minute) }, "[]"},
		{"told again, though it is the same", func(f *fake) { begin("a", "b")(f); f.set("a", "10.96.0.1", 1); f.take() }, "[]"},
		{"one is missing", begin("a"), group("b")},
		{"one is another", func(f *fake) { begin("a", "b")(f); f.set("b", "10.96.0.2", 1); f.sleep(time.Minute) }, group("b")},
		{"one changed lately", func(f *fake) { begin("a", "b")(f); f.set("b", "10.96.0.2", 1); f.sleep(time.Second) }, group("b")},
		{"one went lately", func(f *fake) { begin("a", "b", "c")(f); f.remove("c"); f.sleep(time.Second) }, group("c")},
	} {
		now := sums(tt.tell)
		if got := fmt.Sprint(differ(before, now)); got != tt.want {
			t.Errorf("%s: the groups %s differ, want %s", tt.name, got, tt.want)
		}
	}
	young := sums(func(f *fake) { f.queue.Synced(); f.sleep(time.Minute - time.Second) })
	if got := len(differ(young, make([]uint32, Groups))); got != 0 {
		t.Errorf("%d groups have settled although all was planned lately", got)
	}
}

// The digests of a group are those of its Services; one without Services has settled, too.
func TestDigests(t *testing.T) {
	run(t, func(f *fake) {
		f.set("a", "10.96.0.1", 1)
		f.set("b", "10.96.0.2", 1)
		f.queue.Synced()
		f.sleep(time.Minute)
		a := plan.Name{Namespace: "default", Name: "a"}
		none := (groupOf(a) + 1) % Groups // without a Service
		get := func(quiet time.Duration) (out []Group) {
			f.free(func() { out, _ = f.loop.Digests(context.Background(), []int{groupOf(a), groupOf(a), none}, quiet) })
			return out
		}
		want := fmt.Sprint([]Group{{groupOf(a), []Digest{{a, plan.Digest(f.services[a], nil)}}}, {none, nil}})
		if got := fmt.Sprint(get(time.Minute)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if got := get(2 * time.Minute); got != nil {
			t.Errorf("%v of a group that has not settled", got)
		}
	})
}
