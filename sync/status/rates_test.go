package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Rates are per second, the busiest first; a frontend that is new, or was added anew, counts from its beginning, and one that went is not
// taken for others that begin anew.
func TestRates(t *testing.T) {
	at := func(name, frontend string, connections, bytes uint64) Traffic {
		return Traffic{Name: Name{Service: name}, Frontend: frontend, Load: Load{Active: 1, Counters: &Counters{Connections: connections, InBytes: bytes}}}
	}
	item := func(name string, connections, bytes uint64) Traffic {
		return at(name, "cluster IP", connections, bytes)
	}
	begin := time.Now()
	before := List[Traffic]{Time: begin, Items: []Traffic{
		item("quiet", 7, 100), item("busy", 10, 1000), item("again", 500, 5000),
		item("loses", 900, 5_000_000_000), at("loses", "node port", 6, 1000), item("gains", 900, 5_000_000_000),
	}}
	now := List[Traffic]{Time: begin.Add(2 * time.Second), Items: []Traffic{
		item("quiet", 7, 100), item("busy", 30, 5000), item("again", 4, 40), item("new", 2, 20),
		item("loses", 902, 5_000_000_014), item("gains", 902, 5_000_000_014), at("gains", "node port", 2, 14),
	}}
	var got []string
	for _, r := range Next(&Reading{Traffic: before}, now).Rates {
		got = append(got, fmt.Sprintf("%s%s %v %v %d", r.Service, r.Frontend, r.Connections, r.InBytes, r.Active))
	}
	if want := "[busy 10 2000 1 again 2 20 1 gains 2 14 2 new 1 10 1 loses 1 7 1 quiet 0 0 1]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// Rates are those between the last two readings, which all askers share; the first request has none.
func TestSharedRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := Server{Loop: f, Meter: f, Now: time.Now}
		mux := http.NewServeMux()
		s.Register(mux)
		get := func(query string) List[Rate] {
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1alpha1/rates?"+query, nil))
			var list List[Rate]
			if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
				t.Fatal(err)
			}
			return list
		}
		for _, tt := range []struct {
			after     time.Duration
			query     string
			items     int
			readings  int
			bytesRate float64
		}{
			{0, "", 0, 1, 0},
			{readingAge - 1, "", 0, 1, 0},
			{1, "", 1, 2, 70 / readingAge.Seconds()},
			{1, "search=WEB", 1, 2, 70 / readingAge.Seconds()},
			{0, "search=other", 0, 2, 0},
			{0, "skip=1", 0, 2, 0},
			{2 * readingAge, "", 1, 3, 70 / (2*readingAge + 1).Seconds()},
			{2 * forgetAfter, "", 0, 4, 0},
		} {
			time.Sleep(tt.after)
			got := get(tt.query)
			if len(got.Items) != tt.items || f.readings != tt.readings || tt.items > 0 && got.Items[0].InBytes != tt.bytesRate {
				t.Errorf("after %v, %q: %+v; %d readings, want %d", tt.after, tt.query, got.Items, f.readings, tt.readings)
			}
		}
	})
}

// A result that took long serves longer, many askers share the making of one, and an asker that goes away ends it for nobody.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		s := shared[int]{age: time.Second, make: func(ctx context.Context, _ *int) (int, error) {
			made++
			time.Sleep(time.Second)
			return made, context.Cause(ctx)
		}}
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := s.get(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an impatient asker: %v", err)
		}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if n, err := s.get(t.Context()); n != 1 || err != nil {
					t.Errorf("%d %v", n, err)
				}
			})
		}
		all.Wait()
		time.Sleep(share*time.Second - 1)
		if n, err := s.get(t.Context()); n != 1 || err != nil {
			t.Errorf("while it is young: %d %v", n, err)
		}
		time.Sleep(time.Nanosecond)
		if n, err := s.get(t.Context()); n != 2 || err != nil {
			t.Errorf("when it is old: %d %v", n, err)
		}
		time.Sleep(2 * forgetAfter)
		synctest.Wait()
		if s.last != nil {
			t.Error("not forgotten")
		}
	})
}

// A result that fails takes no more time than one that does not, however often it is asked for: all pauses after failures are bounded by
// its cost, and the first one by a minute. Nor does one that is dear and seldom asked for.
func TestFailuresAreShared(t *testing.T) {
	const cost = answerLimit
	for _, tt := range []struct {
		name         string
		every        time.Duration
		fails        func(made int) bool
		first, later int // times that it is made in the first hour, and in each later one
	}{
		{"fails", 2 * time.Second, func(int) bool { return true }, 7, 3},
		{"fails, seldom asked for", 2 * forgetAfter, func(int) bool { return true }, 7, 3},
		{"fails now and then", 2 * time.Second, func(made int) bool { return made%2 == 1 }, 6, 6},
		{"is dear, and seldom asked for", 2 * forgetAfter, func(int) bool { return false }, 3, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				made := 0
				s := shared[int]{make: func(ctx context.Context, _ *int) (int, error) {
					if made++; !tt.fails(made) {
						time.Sleep(cost - time.Second)
						return made, nil
					}
					<-ctx.Done()
					return 0, ctx.Err()
				}}
				for hour := range 4 {
					before := made
					for begin := time.Now(); time.Since(begin) < time.Hour; time.Sleep(tt.every) {
						if n, err := s.get(t.Context()); (err == nil) != (n > 0) || err != nil && !errors.Is(err, context.DeadlineExceeded) {
							t.Fatal(n, err)
						}
					}
					if most := []int{tt.first, tt.later}[min(hour, 1)]; made-before > most {
						t.Errorf("made %d times in hour %d, want at most %d", made-before, hour, most)
					}
				}
				time.Sleep(time.Hour)
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.last != nil {
					t.Error("not forgotten")
				}
			})
		})
	}
}

// After a single failure there is a result within a minute or so, and the error tells when.
func TestOneFailureHidesNothingForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := false
		s := shared[int]{make: func(ctx context.Context, _ *int) (int, error) {
			if !failed {
				failed = true
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return 1, nil
		}}
		if _, err := s.get(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(firstPause / 2)
		if _, err := s.get(t.Context()); err == nil || err.Error() != "context deadline exceeded; next attempt in 30s" {
			t.Error(err)
		}
		time.Sleep(firstPause / 2)
		if n, err := s.get(t.Context()); n != 1 || err != nil {
			t.Errorf("after a minute: %d %v", n, err)
		}
	})
}
