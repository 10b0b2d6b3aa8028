package reconcile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"kube-ipvs/sync/delta"
)

func TestSummary(t *testing.T) {
	var errs []error
	for i := range 8 {
		errs = append(errs, nil, fmt.Errorf("object %d: %w", i, os.ErrNotExist))
	}
	got := Summary(errs)
	if !errors.Is(got, os.ErrNotExist) || !strings.HasSuffix(got.Error(), "object 4: file does not exist\nand 3 more") {
		t.Errorf("summary = %v", got)
	}
	if got := Summary([]error{nil, nil}); got != nil {
		t.Errorf("summary of nothing = %v", got)
	}
}

// A kernel of words, each with a number. It logs what it is asked for.
type kernel struct {
	holds  map[string]int
	refuse map[string]error // by operation
	broken error            // it cannot be read
	log    []string
}

type op string

func (o op) String() string { return string(o) }

func (k *kernel) layer(title string) *TableLayer[string, int, op] {
	counter := func() prometheus.Counter { return prometheus.NewCounter(prometheus.CounterOpts{}) }
	return &TableLayer[string, int, op]{
		Title: title, Table: delta.New[string, int](), Compare: strings.Compare,
		Read: func(context.Context) (iter.Seq2[string, int], error) {
			k.log = append(k.log, "read "+title)
			return maps.All(k.holds), k.broken
		},
		Do: func(_ context.Context, ops []op) []error {
			errs := make([]error, len(ops))
			for i, o := range ops {
				k.log = append(k.log, string(o))
				if errs[i] = k.refuse[string(o)]; errs[i] != nil {
					continue
				}
				var word string
				var n int
				if _, err := fmt.Sscanf(string(o), title+" add %s %d", &word, &n); err == nil {
					k.holds[word] = n
				} else {
					delete(k.holds, strings.TrimPrefix(string(o), title+" del "))
				}
			}
			return errs
		},
		Add:   func(word string, n int, _ bool) op { return op(fmt.Sprintf("%s add %s %d", title, word, n)) },
		Del:   func(word string) op { return op(title + " del " + word) },
		Count: &Counters{Operations: counter(), Reads: counter(), Batch: prometheus.NewHistogram(prometheus.HistogramOpts{}), Failed: func(error) {}, Beat: func() {}},
	}
}

// sync returns what the kernels are asked for.
func sync(t *testing.T, s Stack, kernels ...*kernel) []string {
	s.Observe(t.Context(), func() {})
	s.Sync(t.Context())
	var out []string
	for _, k := range kernels {
		out = append(out, k.log...)
		k.log = nil
	}
	return out
}

func expect(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// Layers are ensured forward and pruned backward, each object in order, at the cost of what differs.
func TestStack(t *testing.T) {
	k := &kernel{holds: map[string]int{"old": 1, "stays": 1, "changes": 1}}
	low, high := k.layer("low"), k.layer("high")
	s := Stack{low, high}
	for _, l := range []*TableLayer[string, int, op]{low, high} {
		l.Table.Want("stays", 1)
		l.Table.Want("changes", 2)
	}
	low.Table.Want("new", 1)
	high.Read = func(context.Context) (iter.Seq2[string, int], error) {
		return maps.All(map[string]int{"stays": 1}), nil
	}
	expect(t, "first", sync(t, s, k), "read low", "low add changes 2", "low add new 1", "high add changes 2", "low del old")
	expect(t, "again", sync(t, s, k))
	s.Invalidate()
	if low.Table.Drop("new"); s.Err() != nil || s.Blocked() || low.Pending() != 1 {
		t.Errorf("err %v, blocked %v, %d pending", s.Err(), s.Blocked(), low.Pending())
	}
	high.MayAdd = func(string) bool { return false }
	expect(t, "invalidated", sync(t, s, k), "read low", "low del new")
	if high.Pending() != 1 || !high.Present("stays") || high.Absent("stays") || !high.Absent("changes") {
		t.Error("an object that is held back is not pending, or what is known is wrong")
	}
}

// An object that is refused holds nothing up and waits for Retry, which has its layer and the one beside it read first.
func TestRetry(t *testing.T) {
	refused := errors.New("refused")
	k := &kernel{holds: map[string]int{"b": 1, "gone": 1}, refuse: map[string]error{"low add a 1": refused, "low del gone": refused}}
	low, beside := k.layer("low"), k.layer("beside")
	low.With = beside
	for _, word := range []string{"a", "b", "c"} {
		low.Table.Want(word, 1)
		beside.Table.Want(word, 1)
	}
	s := Stack{low, beside}
	beside.Do = func(context.Context, []op) []error { return nil }
	expect(t, "first", sync(t, s, k), "read low", "read beside", "low add a 1", "low add c 1", "low del gone")
	if err := s.Err(); !errors.Is(err, refused) || !strings.HasPrefix(err.Error(), "low add a 1: refused\nlow del gone: ") {
		t.Errorf("error %v", err)
	}
	if s.Blocked() {
		t.Error("two objects block the layer")
	}
	if low.Absent("a") || low.Present("gone") || !low.HasFailed("a") {
		t.Error("an object that was refused is taken to be certainly there, or not there")
	}
	low.Table.Want("d", 1)
	expect(t, "a change elsewhere", sync(t, s, k), "low add d 1")
	k.refuse = nil
	s.Retry()
	expect(t, "retry", sync(t, s, k), "read low", "read beside", "low add a 1", "low del gone")
	if s.Err() != nil {
		t.Errorf("error %v after it was repaired", s.Err())
	}
	s.Retry()
	expect(t, "retry of nothing", sync(t, s, k))
}

// Nothing is changed in a layer that cannot be read, and the others go on.
func TestUnknown(t *testing.T) {
	k, other := &kernel{holds: map[string]int{}, broken: errors.New("broken")}, &kernel{holds: map[string]int{}}
	low, high := k.layer("low"), other.layer("high")
	low.Table.Want("a", 1)
	high.Table.Want("a", 1)
	s := Stack{low, high}
	expect(t, "broken", sync(t, s, k, other), "read low", "read high", "high add a 1")
	if !s.Blocked() || !low.Unknown() || low.Absent("a") || !errors.Is(s.Err(), k.broken) {
		t.Errorf("blocked %v, error %v", s.Blocked(), s.Err())
	}
	expect(t, "not retried", sync(t, s, k, other))
	k.broken = nil
	s.Retry()
	expect(t, "repaired", sync(t, s, k, other), "read low", "low add a 1")
}

// A layer that refuses many objects, or all, is blocked; one that refused while it changed others is not, nor is one that
// declined. What is refused for one cause counts once.
func TestBlocked(t *testing.T) {
	one := func(string) any { return "endpoint" }
	half := func(word string) any { // words in pairs
		var i int
		fmt.Sscanf(word, "refused%d", &i)
		return i / 2
	}
	for _, tt := range []struct {
		name      string
		why       error
		refused   int
		there     int // before
		accepted  int
		blames    func(string) any
		isBlocked bool
	}{
		{"one of one", os.ErrInvalid, 1, 0, 0, nil, false},
		{"two of two", os.ErrInvalid, 2, 0, 0, nil, true},
		{"two new ones", os.ErrInvalid, 2, 1, 0, nil, false},
		{"ten new ones", os.ErrInvalid, 10, 1, 0, nil, true},
		{"ten beside one that is accepted", os.ErrInvalid, 10, 1, 1, nil, false},
		{"ten that were declined", Declined("not ours"), 10, 0, 0, nil, false},
		{"all, for one cause", os.ErrInvalid, 2, 0, 0, one, false},
		{"ten new ones, for one cause", os.ErrInvalid, 10, 1, 0, one, false},
		{"eighteen new ones, for nine causes", os.ErrInvalid, 18, 1, 0, half, false},
		{"twenty new ones, for ten causes", os.ErrInvalid, 20, 1, 0, half, true},
		{"four of four, for two causes", os.ErrInvalid, 4, 0, 0, half, true},
	} {
		k := &kernel{holds: map[string]int{}, refuse: map[string]error{}}
		l := k.layer("low")
		l.Blames = tt.blames
		for i := range tt.refused {
			l.Table.Want(fmt.Sprintf("refused%d", i), 1)
			k.refuse[fmt.Sprintf("low add refused%d 1", i)] = tt.why
		}
		for i := range tt.accepted {
			l.Table.Want(fmt.Sprintf("accepted%d", i), 1)
		}
		for i := range tt.there {
			l.Table.Want(fmt.Sprintf("there%d", i), 1)
			k.holds[fmt.Sprintf("there%d", i)] = 1
		}
		sync(t, Stack{l}, k)
		if got := l.Blocked(); got != tt.isBlocked {
			t.Errorf("%s: blocked %v", tt.name, got)
		}
		var failed []string
		for word := range l.Failures() {
			failed = append(failed, word)
		}
		if slices.Sort(failed); len(failed) != tt.refused {
			t.Errorf("%s: %v failed", tt.name, failed)
		}
		l.Aside = func(string) bool { return true }
		if l.Failing() != 0 || l.Pending() != 0 || (l.Err() == nil) != (tt.refused == 0) {
			t.Errorf("%s: counted although it is aside, or not tried again", tt.name)
		}
		l.Aside, l.Quiet = nil, func(string) bool { return true }
		if l.Blocked() || l.Err() != nil || l.Pending() != 0 {
			t.Errorf("%s: reported although it is quiet", tt.name)
		}
	}
}
