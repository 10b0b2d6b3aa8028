package browser

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// A look is a way to see the page.
type look struct {
	name          string
	width, height int64
	scheme        string
}

var looks = []look{{"wide", 1280, 800, "light"}, {"narrow", 360, 740, "light"}, {"dark", 1280, 800, "dark"}, {"dark-narrow", 360, 740, "dark"}}

// see makes the browser see the page so.
func (x *tab) see(l look) {
	x.t.Helper()
	x.do(chromedp.EmulateViewport(l.width, l.height))
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}}}
	if _, err := chromedp.Call(x.Context, emulation.SetEmulatedMedia, media); err != nil {
		x.t.Fatal(err)
	}
}

// TestLooks sees each view wide, narrow and dark: nothing is wider than the screen, and all texts have contrast. With -docs it
// leaves screenshots there, and with -shots all of them.
func TestLooks(t *testing.T) {
	for _, services := range []int{3, 10000} {
		w := begin(t, services)
		for _, l := range looks {
			x := w.open(t, "")
			x.see(l)
			for _, view := range views {
				x.do(chromedp.Navigate(w.url + view))
				x.drawn()
				if view == views[1] {
					x.wait("plots", "document.querySelectorAll('.figures .line').length === 4")
				}
				of, _, _ := strings.Cut(strings.TrimPrefix(view, "#/"), "?")
				name := fmt.Sprintf("%s-%d%s", l.name, services, of)
				if wide := eval[int64](x, "document.documentElement.scrollWidth"); wide > l.width {
					t.Errorf("%s %s: %d pixels wide", name, view, wide)
				}
				if low := eval[[]string](x, contrast); len(low) > 0 {
					t.Errorf("%s: low contrast: %q", name, low)
				}
				if shown[name] != "" && *docs != "" {
					time.Sleep(past) // plots need one
				}
				x.shoot(name)
			}
		}
	}
}

// shown are the screenshots of docs/page.md.
var shown = map[string]string{"wide-10000": "page-wide", "dark-3service": "page-dark", "narrow-10000": "page-narrow"}

// past is how long a view is open before it is in the documentation.
const past = 45 * time.Second

// shoot leaves a screenshot.
func (x *tab) shoot(name string) {
	x.t.Helper()
	as, isShown := shown[name]
	if *docs == "" && *shots == "" {
		return
	}
	shot, err := chromedp.Run(x.Context, chromedp.CaptureScreenshot())
	if err != nil {
		x.t.Fatal(err)
	}
	if *shots != "" {
		if err := os.WriteFile(filepath.Join(*shots, name+".png"), shot, 0o600); err != nil {
			x.t.Fatal(err)
		}
	}
	if *docs != "" && isShown {
		small, err := reduced(shot)
		if err != nil {
			x.t.Fatal(err)
		}
		if len(small) > 60_000 {
			x.t.Errorf("%s: %d bytes", as, len(small))
		}
		if err := os.WriteFile(filepath.Join(*docs, as+".png"), small, 0o644); err != nil {
			x.t.Fatal(err)
		}
	}
}

// reduced returns a picture with the 64 colours that it has most, which are enough for texts and lines.
func reduced(shot []byte) ([]byte, error) {
	in, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return nil, err
	}
	count, bounds := map[color.Color]int{}, in.Bounds()
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			count[in.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int {
		if d := count[b] - count[a]; d != 0 {
			return d
		}
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
	palette := color.Palette(colours[:min(64, len(colours))])
	out, index := image.NewPaletted(bounds, palette), map[color.Color]uint8{}
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			c := in.At(x, y)
			i, known := index[c]
			if !known {
				i = uint8(palette.Index(c))
				index[c] = i
			}
			out.SetColorIndex(x, y, i)
		}
	}
	var b bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, out)
	return b.Bytes(), err
}

// TestCost measures the first view: bytes, requests, and the time until the browser paints and until the Services are there. With
// -docs it writes docs/page.md.
func TestCost(t *testing.T) {
	var rows []string
	for _, services := range []int{3, 10000} {
		w := begin(t, services)
		w.open(t, "").drawn() // the program has its first census
		var paint, drawn []float64
		var x *tab
		for range 5 {
			x = w.open(t, "")
			x.drawn()
			drawn = append(drawn, eval[float64](x, "performance.now()"))
			x.wait("a paint", "performance.getEntriesByName('first-contentful-paint').length")
			paint = append(paint, eval[float64](x, "performance.getEntriesByName('first-contentful-paint')[0].startTime"))
		}
		time.Sleep(500 * time.Millisecond) // the browser tells of the last bytes later
		x.mu.Lock()
		bytes, requests := x.bytes, x.requests
		x.mu.Unlock()
		slices.Sort(paint)
		slices.Sort(drawn)
		rows = append(rows, fmt.Sprintf("| %s | %.0f KB in %d requests | %.0f ms | %.0f ms |", thousands(services), math.Ceil(bytes/1000), requests, paint[2], drawn[2]))
		if bytes > 100_000 || requests > 20 {
			t.Errorf("%d Services: %.0f bytes in %d requests", services, bytes, requests)
		}
	}
	t.Log(strings.Join(rows, "\n"))
	if *docs == "" {
		return
	}
	file := filepath.Join(*docs, "page.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?m)^\| Services \|.*\n\|[-|:]*\|\n(\|.*\n)+`)
	if !table.Match(text) {
		t.Fatalf("%s has no table of costs", file)
	}
	out := table.ReplaceAllLiteral(text, []byte("| Services | the first view | first paint | Services shown |\n|--:|---|--:|--:|\n"+strings.Join(rows, "\n")+"\n"))
	if err := os.WriteFile(file, out, 0o644); err != nil {
		t.Fatal(err)
	}
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}
