package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"kube-ipvs/sync/ipvsmode"
)

// TestTenThousandServices bounds the answers that the page asks for: bytes, time, and how often the whole kernel is read. The
// times are far above those that it takes, for busy machines.
func TestTenThousandServices(t *testing.T) {
	w := newWorld(10000, false)
	l := ipvsmode.New(w.config())
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer stop()
	if err := w.begin(ctx); err != nil {
		t.Fatal(err)
	}
	answers := w.answers(l, nil)
	for _, tt := range []struct {
		path  string
		bytes int
		walks int // over all of the kernel's table, for twenty of these requests at once
		has   string
	}{
		{"overview", 30_000, 0, `"services":10000`},
		{"services?limit=50&loads=true", 30_000, 0, `"total":10000`},
		{"services?limit=50&loads=true&skip=9950", 30_000, 0, `"web-09999"`},
		{"services?limit=50&loads=true&only=Troubled", 40_000, 0, `"state":"Rejecting"`},
		{"services?limit=50&loads=true&search=web-0123", 10_000, 0, `"total":10`},
		{"services?limit=50&loads=true&search=10.96.4.210", 2_000, 0, `"web-01233"`},
		{"services?service=web-01233&namespace=shop&loads=true", 2_000, 0, `"total":1`},
		{"endpoints?service=web-01233&namespace=shop&loads=true&limit=50", 3_000, 0, `"total":3`},
		{"frontends?limit=50&only=Unserved", 30_000, 0, `"state":"NotServed"`},
		{"drains?limit=50&only=Draining&loads=true", 2_000, 0, `"in no slice any more"`},
		{"explain?to=10.96.4.210:80", 10_000, 0, `"shop/web-01233"`},
		{"rates?limit=50", 1_000, 1, `"items":[]`},
	} {
		before, begin := w.table.Calls().Walk, time.Now()
		var all sync.WaitGroup
		var first string
		for i := range 20 {
			all.Go(func() {
				r := httptest.NewRecorder()
				answers.ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/v1alpha1/"+tt.path, nil))
				if i == 0 {
					first = r.Body.String()
				}
			})
		}
		all.Wait()
		took, walks := time.Since(begin), w.table.Calls().Walk-before
		t.Logf("%-65s %6d bytes, %v for twenty, %d walks", tt.path, len(first), took.Round(time.Millisecond), walks)
		if !strings.Contains(first, tt.has) || len(first) > tt.bytes {
			t.Errorf("%s: %d bytes, at most %d; it has %.300s", tt.path, len(first), tt.bytes, first)
		}
		if took > 20*time.Second {
			t.Errorf("%s: %v", tt.path, took)
		}
		if walks > tt.walks+1 { // one may be the loop's own
			t.Errorf("%s: %d walks", tt.path, walks)
		}
	}
}
