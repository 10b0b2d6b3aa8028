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

// Where the kernel does not count, there are no rates, of neither answer: what comes with the first counts came earlier.
func TestRatesNeedCounts(t *testing.T) {
	list := func(seconds int64, uncounted string, bytes uint64) List[Traffic] {
		out := List[Traffic]{Time: time.Unix(seconds, 0), Uncounted: uncounted}
		for i, name := range []string{"quiet", "busy"} {
			out.Items = append(out.Items, Traffic{Name: Name{Service: name}, Load: Load{Active: uint32(i), Counters: &Counters{InBytes: bytes}}})
		}
		return out
	}
	for _, tt := range []struct {
		name        string
		before, now List[Traffic]
		want        string
	}{
		{"counted", list(0, "", 0), list(2, "", 8), "busy 4 quiet 4"},
		{"not counted any more", list(0, "", 0), list(2, "off", 8), "busy - quiet -"},
		{"not counted", list(0, "off", 8), list(2, "off", 8), "busy - quiet -"},
		{"counted again", list(0, "off", 8), list(2, "", 8000), "busy - quiet -"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, r := range RatesOf(tt.before, tt.now) {
				rate := "-"
				if r.PerSecond != nil {
					rate = fmt.Sprint(r.InBytes)
				}
				got = append(got, r.Service+" "+rate)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
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
