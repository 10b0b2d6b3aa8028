package status

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Rates need counts, and counts need time: while the kernel does not count there are no rates, nor afterwards, until two readings have all
// that was counted meanwhile. Who gets no rates is told why.
func TestRatesNeedCounts(t *testing.T) {
	type answer struct {
		at        time.Duration
		uncounted string
		bytes     uint64
		want      string
	}
	for _, tt := range []struct {
		name    string
		answers []answer
	}{
		{"counted", []answer{{0, "", 0, ""}, {4 * time.Second, "", 8, "busy 2 quiet 2"}, {8 * time.Second, "", 20, "busy 3 quiet 3"}}},
		{"not counted, from the first", []answer{{0, "off", 8, "off: busy - quiet -"}, {4 * time.Second, "off", 8, "off: busy - quiet -"}}},
		{"not counted any more", []answer{{0, "", 0, ""}, {4 * time.Second, "off", 8, "off: busy - quiet -"}}},
		{"counted again, before the first estimation", []answer{
			{0, "off", 10, "off: busy - quiet -"}, {4 * time.Second, "", 10, "off: busy - quiet -"}, {8 * time.Second, "", 1_000_010, "off: busy - quiet -"},
			{12 * time.Second, "", 1_000_018, "busy 2 quiet 2"}}},
		{"counted again, with short intervals", []answer{
			{0, "off", 10, "off: busy - quiet -"}, {1 * time.Second, "", 10, "off: busy - quiet -"}, {2 * time.Second, "", 10, "off: busy - quiet -"},
			{3 * time.Second, "", 1_000_010, "off: busy - quiet -"}, {4 * time.Second, "", 1_000_010, "off: busy - quiet -"},
			{5 * time.Second, "", 1_000_010, "off: busy - quiet -"}, {6 * time.Second, "", 1_000_012, "busy 2 quiet 2"}}},
		{"off and on again, and off before that is over", []answer{
			{0, "off", 10, "off: busy - quiet -"}, {4 * time.Second, "", 10, "off: busy - quiet -"}, {7 * time.Second, "off", 1_000_010, "off: busy - quiet -"},
			{11 * time.Second, "", 1_000_010, "off: busy - quiet -"}, {15 * time.Second, "", 2_000_010, "off: busy - quiet -"},
			{19 * time.Second, "", 2_000_018, "busy 2 quiet 2"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before *Reading
			for _, a := range tt.answers {
				now := List[Traffic]{Time: time.Unix(0, 0).Add(a.at), Uncounted: a.uncounted}
				for i, name := range []string{"quiet", "busy"} {
					now.Items = append(now.Items, Traffic{Name: Name{Service: name}, Load: Load{Active: uint32(i), Counters: &Counters{InBytes: a.bytes}}})
				}
				r := Next(before, now)
				var got []string
				if before = &r; r.Uncounted != "" {
					got = append(got, r.Uncounted+":")
				}
				for _, rate := range r.Rates {
					number := "-"
					if rate.PerSecond != nil {
						number = fmt.Sprint(rate.InBytes)
					}
					got = append(got, rate.Service, number)
				}
				if strings.Join(got, " ") != a.want {
					t.Errorf("after %v: %q, want %q", a.at, got, a.want)
				}
			}
		})
	}
}

// An answer with rates has the reason or numbers, whatever the kernel was told meanwhile: the page adds the numbers up.
func TestRatesTellWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := Server{Loop: f, Meter: f, Now: time.Now}
		mux := http.NewServeMux()
		s.Register(mux)
		for i, tt := range []struct{ still, told string }{{"off", "off"}, {"off", "off"}, {"", "off"}, {"", "off"}, {"", ""}, {"off", "off"}} {
			f.still = tt.still
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1alpha1/rates", nil))
			var got List[Rate]
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if got.Uncounted != tt.told || len(got.Items) != 1 || (got.Items[0].PerSecond == nil) != (tt.told != "") {
				t.Errorf("reading %d: %s, want the reason %q", i, w.Body, tt.told)
			}
			time.Sleep(readingAge)
		}
	})
}

// An answer without counts tells why, and has the connections all the same. Rates need no second reading for that.
func TestUncountedAnswers(t *testing.T) {
	for _, still := range []string{"", "estimation is off"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.still = still
			s := Server{Loop: f, Meter: f}
			mux := http.NewServeMux()
			s.Register(mux)
			for _, tt := range []struct {
				path  string
				items int
				told  bool // if the counters stand still
				has   bool // counters, if they do not
				kept  bool // if they do
			}{
				{"traffic", 1, true, true, true},
				{"traffic?namespace=a&service=web", 2, true, true, true},
				{"rates", 1, true, false, true},
				{"services?loads=true&limit=100", 3, true, true, false},
				{"services?namespace=a&service=web&loads=true", 1, true, true, false},
				{"endpoints?namespace=a&service=web&loads=true", 2, true, true, false},
				{"services?loads=true", 3, false, false, false},
				{"services?limit=100", 3, false, false, false},
			} {
				w := httptest.NewRecorder()
				mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1alpha1/"+tt.path, nil))
				var got List[map[string]any]
				if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
					t.Fatal(err)
				}
				want, has, items := "", tt.has, tt.items
				if still != "" {
					has = tt.kept
					if tt.told {
						want = still
					}
				} else if tt.path == "rates" {
					items = 0 // without a reading before
				}
				counters, rates := false, false
				for _, item := range got.Items {
					counters = counters || item["inBytes"] != nil
					rates = rates || item["inBytesPerSecond"] != nil
				}
				if got.Uncounted != want || len(got.Items) != items || counters != has || rates {
					t.Errorf("%q, %s: %s", still, tt.path, w.Body)
				}
			}
		})
	}
}
