package delta

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

type table = Table[string, int]

func TestDifference(t *testing.T) {
	tests := []struct {
		name    string
		do      func(*table)
		missing map[string]int
		extra   []string
		len     int
	}{
		{name: "nothing", do: func(*table) {}},
		{
			name:    "wanted and not there",
			do:      func(t *table) { t.Want("a", 1) },
			missing: map[string]int{"a": 1}, len: 1,
		},
		{
			name:  "there and not wanted",
			do:    func(t *table) { t.Learn("a", 1) },
			extra: []string{"a"}, len: 1,
		},
		{
			name: "there as wanted",
			do:   func(t *table) { t.Want("a", 1); t.Learn("a", 1) },
			len:  1,
		},
		{
			name:    "there with another value",
			do:      func(t *table) { t.Want("a", 1); t.Learn("a", 2) },
			missing: map[string]int{"a": 1}, len: 1,
		},
		{
			name:    "the zero value is a value",
			do:      func(t *table) { t.Want("a", 0) },
			missing: map[string]int{"a": 0}, len: 1,
		},
		{
			name: "wanted twice, dropped once",
			do:   func(t *table) { t.Want("a", 1); t.Want("a", 1); t.Learn("a", 1); t.Drop("a") },
			len:  1,
		},
		{
			name:  "wanted twice, dropped twice",
			do:    func(t *table) { t.Want("a", 1); t.Want("a", 1); t.Learn("a", 1); t.Drop("a"); t.Drop("a") },
			extra: []string{"a"}, len: 1,
		},
		{
			name: "replaced: claimed again before it is given back",
			do:   func(t *table) { t.Want("a", 1); t.Learn("a", 1); t.Want("a", 1); t.Drop("a") },
			len:  1,
		},
		{
			name:    "replaced by another value",
			do:      func(t *table) { t.Want("a", 1); t.Learn("a", 1); t.Want("a", 2); t.Drop("a") },
			missing: map[string]int{"a": 2}, len: 1,
		},
		{name: "dropped without being wanted", do: func(t *table) { t.Drop("a") }},
		{name: "forgotten without being known", do: func(t *table) { t.Forget("a") }},
		{
			name:    "gone although wanted",
			do:      func(t *table) { t.Want("a", 1); t.Learn("a", 1); t.Forget("a") },
			missing: map[string]int{"a": 1}, len: 1,
		},
		{name: "gone and not wanted leaves nothing behind", do: func(t *table) { t.Learn("a", 1); t.Forget("a") }},
		{
			name: "what was read replaces what was known",
			do: func(t *table) {
				t.Want("kept", 1)
				t.Want("lost", 1)
				t.Learn("kept", 1)
				t.Learn("lost", 1)
				t.Learn("gone", 1)
				t.Observe(maps.All(map[string]int{"kept": 1, "strange": 1}))
			},
			missing: map[string]int{"lost": 1}, extra: []string{"strange"}, len: 3,
		},
		{name: "kept though not wanted", do: func(t *table) { t.Learn("a", 1); t.Keep("a"); t.Learn("a", 1) }, len: 1},
		{
			name:  "kept for a while",
			do:    func(t *table) { t.Learn("a", 1); t.Keep("a"); t.Release("a") },
			extra: []string{"a"}, len: 1,
		},
		{
			name:  "kept until it is another",
			do:    func(t *table) { t.Learn("a", 1); t.Keep("a"); t.Learn("a", 2) },
			extra: []string{"a"}, len: 1,
		},
		{
			name:  "kept until it was wanted",
			do:    func(t *table) { t.Learn("a", 1); t.Keep("a"); t.Want("a", 1); t.Drop("a") },
			extra: []string{"a"}, len: 1,
		},
		{name: "wanted ones are not kept", do: func(t *table) { t.Want("a", 1); t.Learn("a", 1); t.Keep("a"); t.Drop("a") }, extra: []string{"a"}, len: 1},
		{name: "kept and gone leaves nothing behind", do: func(t *table) { t.Learn("a", 1); t.Keep("a"); t.Forget("a") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := New[string, int]()
			tt.do(table)
			if diff := cmp.Diff(tt.missing, missingOf(table)); diff != "" && tt.missing != nil || tt.missing == nil && len(missingOf(table)) > 0 {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.extra, slices.Sorted(table.Extra())); diff != "" {
				t.Errorf("extra (-want +got):\n%s", diff)
			}
			if got, want := table.Pending(), len(tt.missing)+len(tt.extra); got != want {
				t.Errorf("Pending = %d, want %d", got, want)
			}
			if got := count(table); got != tt.len {
				t.Errorf("%d objects, want %d", got, tt.len)
			}
		})
	}
}

// replace puts one reference in the place of another, as the loop does for an object whose value changes.
func replace[K, V comparable](t *Table[K, V], key K, value V) {
	t.Want(key, value)
	t.Drop(key)
}

// count returns the number of objects that the table holds.
func count[K, V comparable](t *Table[K, V]) (n int) {
	for range t.all() {
		n++
	}
	return n
}

// missingOf returns the missing objects with their desired values.
func missingOf(t *table) map[string]int {
	out := map[string]int{}
	for o := range t.Missing() {
		out[o.Key()] = o.Wanted()
	}
	return out
}

// What a read finds to differ is lost until it does not differ any more, made again or wanted no more; what differed before is not.
func TestLost(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*table)
		want int
	}{
		{"what was not made yet", func(t *table) { t.Want("a", 1); t.Observe(maps.All(map[string]int{})) }, 0},
		{"removed", func(t *table) { t.Want("a", 1); t.Learn("a", 1); t.Observe(maps.All(map[string]int{})) }, 1},
		{"changed", func(t *table) { t.Want("a", 1); t.Learn("a", 1); t.Observe(maps.All(map[string]int{"a": 2})) }, 1},
		{"changed, and read twice", func(t *table) {
			t.Want("a", 1)
			t.Learn("a", 1)
			t.Observe(maps.All(map[string]int{"a": 2}))
			t.Observe(maps.All(map[string]int{"a": 2}))
		}, 1},
		{"added", func(t *table) { t.Observe(maps.All(map[string]int{"a": 2})) }, 1},
		{"removed and made again", func(t *table) {
			t.Want("a", 1)
			t.Learn("a", 1)
			t.Observe(maps.All(map[string]int{}))
			t.Learn("a", 1)
		}, 0},
		{"removed and wanted no more", func(t *table) {
			t.Want("a", 1)
			t.Learn("a", 1)
			t.Observe(maps.All(map[string]int{}))
			t.Drop("a")
		}, 0},
		{"kept and removed", func(t *table) { t.Learn("a", 1); t.Keep("a"); t.Observe(maps.All(map[string]int{})) }, 0},
	} {
		table := New[string, int]()
		if tt.do(table); table.Lost() != tt.want {
			t.Errorf("%s: %d lost, want %d", tt.name, table.Lost(), tt.want)
		}
	}
}

// The loop performs the changes while it iterates over Missing and Extra.
func TestChangesDuringIteration(t *testing.T) {
	table := New[string, int]()
	for i := range 100 {
		table.Want(fmt.Sprint("made", i), i)
		table.Learn(fmt.Sprint("removed", i), i)
	}
	for o := range table.Missing() {
		table.Made(o)
	}
	for k := range table.Extra() {
		table.Forget(k)
	}
	if table.Pending() != 0 || count(table) != 100 {
		t.Errorf("%d pending of %d, want 0 of 100", table.Pending(), count(table))
	}
}

func TestIterationsEnd(t *testing.T) {
	table := New[int, int]()
	for i := range 10 {
		table.Want(i, i)
		table.Learn(i, -1)
		table.Learn(-1-i, 0)
	}
	walks := map[string]int{}
	for range table.Missing() {
		walks["Missing"]++
		break
	}
	for range table.Extra() {
		walks["Extra"]++
		break
	}
	for range table.All() {
		walks["All"]++
		break
	}
	for range table.Wants() {
		walks["Wants"]++
		break
	}
	want := map[string]int{"Missing": 1, "Extra": 1, "All": 1, "Wants": 1}
	if diff := cmp.Diff(want, walks); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// Objects that were missing at the start must cost nothing later, not even if one stays missing. The comparison of times is
// generous: iterating over all of them would take hundreds of times as long.
func TestTheStartIsNotPaidForAgain(t *testing.T) {
	const small, large = 10, 100_000
	cost := func(size int) time.Duration {
		table := filled(size)
		for i := range size {
			table.Learn(-2-i, 0)
		}
		for i := range size - 1 {
			table.Forget(-2 - i)
		}
		replace(table, 0, 7)
		start := time.Now()
		for i := range 1_000 {
			replace(table, 1, i)
			for o := range table.Missing() {
				if o.Key() == 1 {
					table.Made(o)
				}
			}
			for range table.Extra() {
				table.Forget(-1)
			}
		}
		if table.Pending() != 2 {
			t.Errorf("%d pending, want 2", table.Pending())
		}
		return time.Since(start)
	}
	if a, b := cost(small), cost(large); b > 50*a {
		t.Errorf("1,000 changes take %v among %d objects and %v among %d", a, small, b, large)
	}
}

// A model is a table without regard to speed.
type model struct {
	refs, wanted map[string]int
	known        map[string]int
	kept         map[string]bool
}

func (m model) learn(k string, v int) {
	if m.known[k] != v {
		delete(m.kept, k)
	}
	m.known[k] = v
}

func (m model) missing() map[string]int {
	out := map[string]int{}
	for k := range m.refs {
		if known, ok := m.known[k]; m.refs[k] > 0 && (!ok || known != m.wanted[k]) {
			out[k] = m.wanted[k]
		}
	}
	return out
}

func (m model) extra() map[string]bool {
	out := map[string]bool{}
	for k := range m.known {
		if m.refs[k] == 0 && !m.kept[k] {
			out[k] = true
		}
	}
	return out
}

func TestAsTheModel(t *testing.T) {
	t.Run("as it is", func(t *testing.T) { likeTheModel(t, New[string, int]) })
	t.Run("with keys of one hash", func(t *testing.T) {
		likeTheModel(t, func() *table {
			table := New[string, int]()
			table.hash = func(key string) uint32 { return uint32(key[0] / 'c') }
			return table
		})
	})
}

func likeTheModel(t *testing.T, empty func() *table) {
	keys := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
	values := rapid.IntRange(0, 2)
	rapid.Check(t, func(t *rapid.T) {
		table := empty()
		m := model{map[string]int{}, map[string]int{}, map[string]int{}, map[string]bool{}}
		t.Repeat(map[string]func(*rapid.T){
			"Want": func(t *rapid.T) {
				k, v := keys.Draw(t, "key"), values.Draw(t, "value")
				table.Want(k, v)
				m.refs[k]++
				m.wanted[k] = v
				delete(m.kept, k)
			},
			"Drop": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				table.Drop(k)
				m.refs[k] = max(0, m.refs[k]-1)
			},
			"Replace": func(t *rapid.T) {
				k, v := keys.Draw(t, "key"), values.Draw(t, "value")
				replace(table, k, v)
				delete(m.kept, k)
				if m.refs[k] > 0 {
					m.wanted[k] = v
				}
			},
			"Learn": func(t *rapid.T) {
				k, v := keys.Draw(t, "key"), values.Draw(t, "value")
				table.Learn(k, v)
				m.learn(k, v)
			},
			"Made": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				if m.refs[k] > 0 {
					for o := range table.Missing() {
						if o.Key() == k {
							table.Made(o)
						}
					}
					m.known[k] = m.wanted[k]
				}
			},
			"Forget": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				table.Forget(k)
				delete(m.known, k)
				delete(m.kept, k)
			},
			"Keep": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				table.Keep(k)
				if _, known := m.known[k]; known && m.refs[k] == 0 {
					m.kept[k] = true
				}
			},
			"Release": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				table.Release(k)
				delete(m.kept, k)
			},
			"Observe": func(t *rapid.T) {
				read := rapid.MapOf(keys, values).Draw(t, "read")
				table.Observe(maps.All(read))
				maps.DeleteFunc(m.kept, func(k string, _ bool) bool { _, found := read[k]; return !found })
				maps.DeleteFunc(m.known, func(k string, _ int) bool { _, found := read[k]; return !found })
				for k, v := range read {
					m.learn(k, v)
				}
			},
			"": func(t *rapid.T) { compare(t, table, m) },
		})
	})
}

func compare(t *rapid.T, table *table, m model) {
	if diff := cmp.Diff(m.missing(), missingOf(table)); diff != "" {
		t.Fatalf("missing (-model +table):\n%s", diff)
	}
	extra := map[string]bool{}
	for k := range table.Extra() {
		extra[k] = true
	}
	if diff := cmp.Diff(m.extra(), extra); diff != "" {
		t.Fatalf("extra (-model +table):\n%s", diff)
	}
	if got, want := table.Pending(), len(m.missing())+len(extra); got != want {
		t.Fatalf("Pending = %d, the model has %d", got, want)
	}
	if diff := cmp.Diff(m.known, maps.Collect(table.All())); diff != "" {
		t.Fatalf("known (-model +table):\n%s", diff)
	}
	wants, objects := map[string]int{}, maps.Clone(m.known)
	for k, n := range m.refs {
		if n > 0 {
			wants[k], objects[k] = m.wanted[k], 0
		}
	}
	if diff := cmp.Diff(wants, maps.Collect(table.Wants())); diff != "" {
		t.Fatalf("wanted (-model +table):\n%s", diff)
	}
	if table.WantedLen() != len(wants) || table.KnownLen() != len(m.known) {
		t.Fatalf("%d wanted and %d known, the model has %d and %d", table.WantedLen(), table.KnownLen(), len(wants), len(m.known))
	}
	if count(table) != len(objects) {
		t.Fatalf("%d objects, the model has %d", count(table), len(objects))
	}
	for k := range objects {
		wanted, isWanted := table.Wanted(k)
		known, isKnown := table.Known(k)
		mKnown, mIsKnown := m.known[k]
		if isWanted != (m.refs[k] > 0) || isWanted && wanted != m.wanted[k] || isKnown != mIsKnown || known != mKnown {
			t.Fatalf("%s: wanted %v %v, known %v %v; the model has %d refs of %d, known %v %v",
				k, wanted, isWanted, known, isKnown, m.refs[k], m.wanted[k], mKnown, mIsKnown)
		}
	}
}

// BenchmarkChange changes one object in tables of very different size: the time must not depend on it.
func BenchmarkChange(b *testing.B) {
	for _, size := range []int{100, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			table := filled(size)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				replace(table, i%size, i)
				for o := range table.Missing() {
					table.Made(o)
				}
			}
		})
	}
}

// A wide key is as large as that of a real server.
type wide struct {
	n int
	_ [56]byte
}

// BenchmarkMemory measures the memory of an object in sync.
func BenchmarkMemory(b *testing.B) {
	for _, size := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				table := New[wide, uint32]()
				for i := range size {
					table.Want(wide{n: i}, 0)
				}
				for i := range size {
					table.Learn(wide{n: i}, 0)
				}
				b.ReportMetric(float64(heap()-before)/float64(size), "bytes/object")
				runtime.KeepAlive(table)
			}
		})
	}
}

// filled returns a table as after a start: everything was wanted before anything was made.
func filled(size int) *Table[int, int] {
	table := New[int, int]()
	for i := range size {
		table.Want(i, -1)
	}
	for i := range size {
		table.Learn(i, -1)
	}
	return table
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
