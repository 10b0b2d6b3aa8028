// Package browser asks the page for a browser with a real one: Chromium without a screen, led through its DevTools protocol.
package browser

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var (
	program = flag.String("page", "../../../.bin/page", "the program that serves the page")
	docs    = flag.String("docs", "", "directory of the documentation, to write its screenshots and figures; empty: none")
	shots   = flag.String("shots", "", "directory to write all screenshots into; empty: none")
)

// allocator is the browser of all tests.
var allocator context.Context

func TestMain(m *testing.M) {
	flag.Parse()
	ctx, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // which root has to do without
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.Flag("force-device-scale-factor", "1"), chromedp.Flag("hide-scrollbars", true))...)
	browser, end := chromedp.NewContext(ctx)
	if err := chromedp.Do(browser); err != nil {
		fmt.Fprintln(os.Stderr, "Chromium does not start:", err)
		os.Exit(1)
	}
	allocator = browser
	code := m.Run()
	end()
	stop()
	os.Exit(code)
}

// A world is a node that the page shows.
type world struct {
	url    string
	change io.Writer
	end    func()
}

// begin starts the program with so many Services.
func begin(t *testing.T, services int, args ...string) *world {
	t.Helper()
	cmd := exec.Command(*program, append([]string{"-listen=127.0.0.1:0", fmt.Sprintf("-services=%d", services)}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: go build -o .bin/ ./test/page", err)
	}
	end := sync.OnceFunc(func() { in.Close(); _ = cmd.Wait() }) // it ends with its input
	t.Cleanup(end)
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the program ended before it served")
	}
	return &world{lines.Text(), in, end}
}

// A tab is a tab of the browser that notes what goes wrong in it.
type tab struct {
	context.Context
	t        *testing.T
	url      string
	mu       sync.Mutex
	wrong    []string
	requests int
	bytes    float64
}

// open opens the page in a new tab. Errors, violations of the policy and requests to anywhere else fail the test at its end.
func (w *world) open(t *testing.T, hash string, before ...step) *tab {
	t.Helper()
	x := newTab(t, w)
	t.Cleanup(func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, wrong := range x.wrong {
			t.Error(wrong)
		}
	})
	x.do(before...)
	x.do(chromedp.Navigate(w.url + hash))
	return x
}

func newTab(t *testing.T, w *world) *tab {
	t.Helper()
	ctx, end := chromedp.NewContext(allocator, chromedp.WithNewBrowserContext())
	t.Cleanup(end)
	x := &tab{Context: ctx, t: t, url: w.url}
	listener := func(event any) {
		x.mu.Lock()
		defer x.mu.Unlock()
		note := func(format string, args ...any) { x.wrong = append(x.wrong, fmt.Sprintf(format, args...)) }
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			note("exception: %s", e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			note("console.%s", e.Type)
		case *log.EventEntryAdded: // violations of the policy are here
			note("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
		case *page.EventJavascriptDialogOpening:
			note("a dialog opened: %s", e.Message)
		case *network.EventRequestWillBeSent:
			x.requests++
			if !strings.HasPrefix(e.Request.URL, w.url) {
				note("a request to %s", e.Request.URL)
			}
		case *network.EventLoadingFinished:
			x.bytes += e.EncodedDataLength
		}
	}
	if err := chromedp.Listen(ctx, listener); err != nil {
		t.Fatal(err)
	}
	x.do(chromedp.EmulateViewport(1280, 800))
	return x
}

// do carries out actions.
func (x *tab) do(steps ...step) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.Context, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		text, _ := chromedp.Run(x.Context, chromedp.Evaluate[string]("document.body.innerText"))
		x.t.Fatalf("%v; the page has: %s", err, text)
	}
}

// eval returns the value of an expression.
func eval[T any](x *tab, expression string) T {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.Context, time.Minute)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		x.t.Fatalf("%s: %v", expression, err)
	}
	return out
}

// text returns the text of the page.
func (x *tab) text() string {
	x.t.Helper()
	return eval[string](x, "document.body.innerText")
}

// wait waits until an expression is true.
func (x *tab) wait(what, expression string) {
	x.t.Helper()
	for begin := time.Now(); !eval[bool](x, "Boolean("+expression+")"); time.Sleep(50 * time.Millisecond) {
		if time.Since(begin) > 45*time.Second {
			x.t.Fatalf("%s: not within 45 s; the page has: %s", what, x.text())
		}
	}
}

// has waits until the page has a text.
func (x *tab) has(text string) {
	x.t.Helper()
	x.wait(fmt.Sprintf("%q", text), fmt.Sprintf("document.body.innerText.includes(%q)", text))
}

// drawn waits until the view is that of the address.
func (x *tab) drawn() {
	x.t.Helper()
	x.wait("a view", "document.getElementById('view').getAttribute('aria-busy') === 'false'")
}

// A step is an action without a value.
type step = chromedp.Action[chromedp.Void]

// key presses keys.
func (x *tab) key(keys string) { x.t.Helper(); x.do(chromedp.KeyEvent(keys)) }

// click clicks the first element of a selector.
func (x *tab) click(selector string) { x.t.Helper(); x.do(chromedp.Click(chromedp.CSS(selector))) }

// focus moves the focus.
func (x *tab) focus(selector string) { x.t.Helper(); x.do(chromedp.Focus(chromedp.CSS(selector))) }

// enter puts a text into a control in the place of another, key by key.
func (x *tab) enter(selector, keys string) {
	x.t.Helper()
	x.do(chromedp.Focus(chromedp.CSS(selector)))
	eval[bool](x, "document.activeElement.select() ?? true")
	x.do(chromedp.KeyEvent(kb.Delete + keys))
}

// focused returns the focused element in short.
func (x *tab) focused() string {
	x.t.Helper()
	return eval[string](x, "document.activeElement.tagName + ' ' + (document.activeElement.id || document.activeElement.textContent.trim())")
}
