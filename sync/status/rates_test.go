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

// Rates are per second, the busiest first; an item that was added anew counts from its beginning.
func TestRates(t *testing.T) {
	item := func(name string, connections, bytes uint64) Traffic {
		return Traffic{Name: Name{Service: name}, Load: Load{Counters: &Counters{Connections: connections, InBytes: bytes}}}
	}
	begin := time.Now()
	before := List[Traffic]{Time: begin, Items: []Traffic{item("quiet", 7, 100), item("busy", 10, 1000), item("again", 500, 5000)}}
	now := List[Traffic]{Time: begin.Add(2 * time.Second), Items: []Traffic{item("quiet", 7, 100), item("busy", 30, 5000), item("again", 4, 40), item("new", 2, 20)}}
	var got []string
	for _, r := range Next(&Reading{Traffic: before}, now).Rates {
		got = append(got, fmt.Sprintf("%s %v %v", r.Service, r.Connections, r.InBytes))
	}
	if want := "[busy 10 2000 again 2 20 new 1 10 quiet 0 0]"; fmt.Sprint(got) != want {
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
