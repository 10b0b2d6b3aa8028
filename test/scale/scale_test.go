package main

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"

	"kube-ipvs/test/kept"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the page anew from the stored figures")

// TestPage: the page shows the figures of the last run, and nothing else.
func TestPage(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	var f figures
	err := kept.Read(filepath.Join(docs, figuresFile), &f)
	if err != nil {
		t.Fatal(err)
	}
	want, err := f.page()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(docs, "scale.md")
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s (-figures +page); go test ./test/scale -update writes it:\n%s", file, diff)
	}
}

// linear are figures without noise: 100 bytes, and 3 for each Service.
func linear() (f figures) {
	for i, n := range []int{10, 20, 40} {
		f.Sizes[i] = sized{Services: n, Heap: 100 + 3*float64(n), Change: changed{Bytes: float64(n)}}
	}
	f.Deliveries = []delivery{{Endpoints: 1, Bytes: 12}, {Endpoints: 10, Bytes: 30}, {Endpoints: 100, Bytes: 210}}
	f.Rollouts = []rollout{{Pods: 5, Batch: 1, Events: 20}}
	return f
}

func TestModel(t *testing.T) {
	exact, bent := linear(), linear()
	bent.Sizes[2].Heap = 200
	bent.Deliveries[2].Bytes = 420
	for _, tt := range []struct {
		name      string
		got, want float64
	}{
		{"at the largest size", second(exact.checked(heap)), 0},
		{"above what was measured", second(bent.checked(heap)), 10},
		{"beyond", exact.in(heap, 1000), 3100},
		{"beyond, through the outer two", bent.in(heap, 70), 270},
		{"beyond, of what does not depend on the size", exact.in(changeBytes, 1000), 25},
		{"of slices", exact.eventError(), 0},
		{"of slices, below what was measured", bent.eventError(), -50},
		{"changes a pod", exact.steps(), 4},
	} {
		if math.Abs(tt.got-tt.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}

func second(_, b float64) float64 { return b }

func TestPace(t *testing.T) {
	f, d := linear(), delivery{Endpoints: 10, Bytes: 1000, ServerCPU: 0.001}
	small := target{nodes: 50, cores: 2, card: 1e6}
	if got, want := f.pace(small, 10, d), (pace{events: 40, deliveries: 2000, bytes: 2e6, cores: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if cores, card := f.wall(small, d); cores != 10 || card != 5 {
		t.Errorf("walls at %v and %v pods a second, want 10 and 5", cores, card)
	}
}

func TestUnits(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{size(0), "0 B"}, {size(999), "999 B"}, {size(999.6), "1.00 kB"}, {size(-1500), "-1.50 kB"}, {size(12_345_678), "12.3 MB"},
		{size(5e14), "500 TB"}, {rate(1e9), "1.00 GB/s"},
		{span(0.00002), "20.0 µs"}, {span(0.0123), "12.3 ms"}, {span(1), "1.00 s"}, {span(119), "119 s"}, {span(180), "3.00 min"}, {span(36000), "10.0 h"},
		{digits(0), "0"}, {digits(0.5), "0.50"}, {digits(99.96), "100"}, {digits(123456), "123,456"},
		{count(999), "999"}, {count(1000), "1,000"}, {count(2_000_050), "2,000,050"}, {percent(1.25), "+1.2 %"}, {percent(-3), "-3.0 %"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		text string
		want [3]int
		ok   bool
	}{
		{"1,2,3", [3]int{1, 2, 3}, true},
		{"1,2", [3]int{}, false},
		{"1,2,x", [3]int{}, false},
		{"0,1,2", [3]int{}, false},
		{"1,3,2", [3]int{}, false},
	} {
		got, err := parseSizes(tt.text)
		if (err == nil) != tt.ok || tt.ok && got != tt.want {
			t.Errorf("%q: %v, %v; want %v, %v", tt.text, got, err, tt.want, tt.ok)
		}
	}
}
