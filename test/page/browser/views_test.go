package browser

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// markup is the name of the hostile Service, and its port, node and so on.
const markup = `<img src=x onerror=alert(1)>"'><script>alert(2)</script>` + "\u202e"

// rows is an expression: the texts of the first cells of a table, by its caption.
func rows(caption string) string {
	return fmt.Sprintf("[...document.querySelectorAll('table')].filter(t => t.caption.innerText === %q).flatMap(t => [...t.tBodies[0].rows].map(r => r.cells[0].innerText))", caption)
}

// The first view has the numbers, and each Service with its state and why it is not served as requested.
func TestLoads(t *testing.T) {
	x := begin(t, 3).open(t, "")
	x.drawn()
	for _, want := range []string{"kube-ipvs node1", "Ready", "shop/web-00000", "bank/web-00001", "mail/web-00002", "no endpoint can serve", "is served for the older Service shop/web-00000", "3 Services"} {
		x.has(want)
	}
	if got := eval[string](x, "document.title"); got != "Services – kube-ipvs" {
		t.Errorf("title %q", got)
	}
	if got := eval[string](x, "[...document.querySelectorAll('.tile')].map(a => a.innerText.replace(/\\s+/g, ' ')).join(', ')"); got != "3 Services, 1 served, 1 limited, 1 rejecting, 0 dropping, 0 pending, 0 not served, 1 draining" {
		t.Errorf("numbers: %s", got)
	}
}

// Ten thousand Services come by fifties, and are found by name, address and state.
func TestSearch(t *testing.T) {
	x := begin(t, 10000).open(t, "")
	x.has("1–50 of 10,000 Services")
	x.has("Not as requested")
	if got := eval[int](x, rows("All Services")+".length"); got != 50 {
		t.Errorf("%d rows", got)
	}
	x.enter("#search", "web-0123")
	x.has("10 Services")
	x.wait("the Services found", rows("Services found")+".length === 10")
	if got := eval[[]string](x, rows("Services found")); !strings.Contains(got[0], "web-0123") || eval[string](x, "location.hash") != "#/?search=web-0123" {
		t.Errorf("found %q at %s", got, eval[string](x, "location.hash"))
	}
	if got := x.focused(); got != "INPUT search" {
		t.Errorf("the focus went to %s while somebody types", got)
	}
	x.enter("#search", "10.96.0.8"+kb.Enter)
	x.wait("the Service of an address", rows("Services found")+".join() === 'bank/web-00007'")
	x.enter("#search", kb.Enter)
	x.focus("#only")
	x.key("Rejecting") // as somebody types to choose
	x.wait("those that reject", rows("Services found")+".length === 10")
	x.enter("#search", "nothing")
	x.has("No Service is like that.")
	x.do(chromedp.Navigate(x.url + "#/"))
	x.click("a[rel=next]")
	x.has("51–100 of 10,000 Services")
	x.do(chromedp.NavigateBack())
	x.has("1–50 of 10,000 Services")
}

// One Service has its frontends, endpoints, drains with the time that is left, and plots from the second answer on.
func TestService(t *testing.T) {
	x := begin(t, 3).open(t, "")
	x.click(`a[href*="web-00000"]`)
	for _, want := range []string{"10.96.0.1:80/tcp", "203.0.113.33:80/tcp", "cluster IP", "external IP", "10.244.0.0:8080/tcp", "web-00000-a", "node1", "in no slice any more", "14 min ", "at most"} {
		x.has(want)
	}
	if got := x.focused(); got != "H1 heading" {
		t.Errorf("the focus is at %s in a new view", got)
	}
	x.wait("plots", "document.querySelectorAll('.figures .line').length === 4")
	if got := eval[string](x, "document.querySelector('.figures svg').getAttribute('aria-label')"); !strings.HasPrefix(got, "Connections: now ") {
		t.Errorf("a plot tells %q", got)
	}
	x.do(chromedp.Navigate(x.url + "#/service?namespace=shop&service=none"))
	x.wait("an alert", "document.getElementById('alert').innerText.includes('no such Service is served')")
	x.expect("404") // the browser logs it
}

// The other views have what they are for.
func TestViews(t *testing.T) {
	w := begin(t, 10)
	t.Run("repairs", func(t *testing.T) { begin(t, 3).open(t, "#/node").has("repaired: servers") })
	for view, want := range map[string][]string{
		"drains":   {"shop/web-00000", "in no slice any more", "14 min "},
		"unserved": {"mail/web-00002", "203.0.113.33:80/tcp", "→ shop/web-00000"},
		"traffic":  {"shop/web-00000", "/s"},
		"node": {"Ready", "kube-ipvs v1.2.3", "31,264 of 262,144", "reals", "cannot allocate memory", "servers", "failed",
			"Drain limit: 15m0s"},
	} {
		t.Run(view, func(t *testing.T) {
			x := w.open(t, "#/"+view)
			for _, text := range want {
				x.has(text)
			}
		})
	}
}

// Where the kernel does not count, the page has the reason and connections, and neither columns nor plots of traffic.
func TestUncounted(t *testing.T) {
	w := begin(t, 3, "-uncounted")
	for view, want := range map[string]string{
		"": "All Services", "service?namespace=shop&service=web-00000": "10.96.0.1:80/tcp", "traffic": "Services with connections",
	} {
		t.Run(view, func(t *testing.T) {
			x := w.open(t, "#/"+view)
			x.has("packets and bytes are not counted on this node")
			x.has("shop/web-00000")
			x.has(want)
			for _, missing := range []string{"Traffic", "From clients", "New connections", "/s"} {
				if cells := eval[string](x, "[...document.querySelectorAll('th, td, figcaption')].map(e => e.innerText).join('\\n')"); strings.Contains(cells, missing) {
					t.Errorf("%q is there: %s", missing, cells)
				}
			}
		})
	}
}

// Explain is a form; its answer has steps with commands, and a wrong address is named.
func TestExplain(t *testing.T) {
	x := begin(t, 3).open(t, "#/explain")
	x.enter("#to", "10.96.0.1:80")
	x.enter("#from", "10.244.0.0"+kb.Enter)
	for _, want := range []string{"From 10.244.0.0 (a pod): delivered to one of 2 endpoints, each 1/2", "ipvsadm -Ln -t 10.96.0.1:80", "shop/web-00000"} {
		x.has(want)
	}
	x.enter("#from", "")
	x.enter("#to", "10.96.0.1:22"+kb.Enter)
	for _, want := range []string{"From a pod: refused", "From this node: refused", "From outside: refused", "No Service has it."} {
		x.has(want)
	}
	x.do(chromedp.NavigateBack())
	x.has("From 10.244.0.0 (a pod)")
	if got := eval[string](x, "document.getElementById('to').value"); got != "10.96.0.1:80" {
		t.Errorf("the form has %q after a step back", got)
	}
	x.enter("#to", "web"+kb.Enter)
	x.wait("an alert", `document.getElementById('alert').innerText.includes('"web" is not ADDRESS:PORT')`)
	x.expect("400")
}

// A change is shown without a step of the user's, and leaves the focus where it is; not while the page is paused.
func TestUpdates(t *testing.T) {
	w := begin(t, 3)
	x := w.open(t, "")
	x.drawn()
	x.focus(`tbody a[href*="web-00001"]`)
	before := x.focused()
	if _, err := fmt.Fprintln(w.change, "1 3"); err != nil {
		t.Fatal(err)
	}
	x.wait("no Service rejects", "!document.body.innerText.includes('no endpoint can serve')")
	if got := x.focused(); got != before || before != "A bank/web-00001" {
		t.Errorf("the focus was at %s, and is at %s", before, got)
	}
	x.click("#pause")
	x.has("paused")
	requests := func() int { x.mu.Lock(); defer x.mu.Unlock(); return x.requests }
	asked := requests()
	time.Sleep(5 * time.Second)
	if now := requests(); now != asked {
		t.Errorf("%d requests while the page is paused", now-asked)
	}
	x.click("#pause")
	x.wait("goes on", "!document.body.innerText.includes('paused')")
}

// When kube-ipvs is gone the page tells it, keeps the last view, and goes on when it is back.
func TestGone(t *testing.T) {
	w := begin(t, 3)
	x := w.open(t, "")
	x.drawn()
	w.end()
	x.has("kube-ipvs does not answer")
	x.has("shop/web-00000")
	begin(t, 3, "-listen="+strings.TrimSuffix(strings.TrimPrefix(w.url, "http://"), "/page/"))
	x.wait("the alert is gone", "document.getElementById('alert').hidden")
	x.expect("ERR_")
}

// Texts of Services' authors are shown as texts, in all views.
func TestHostileTexts(t *testing.T) {
	w := begin(t, 3, "-hostile")
	for _, view := range []string{"#/", "#/service?namespace=" + escape(markup) + "&service=" + escape(markup), "#/explain?to=10.111.0.1:80", "#/unserved", "#/traffic", "#/?search=" + escape(markup)} {
		t.Run(view, func(t *testing.T) {
			x := w.open(t, view)
			x.drawn()
			if view != "#/traffic" {
				x.wait("the text", fmt.Sprintf("document.body.textContent.includes(%q) || document.getElementById('search')?.value === %q", markup, markup))
			}
			if n := eval[int](x, "document.querySelectorAll('img, script:not([src=\"page.js\"]), iframe, object, embed, style, [style], [onerror]').length"); n != 0 {
				t.Errorf("%d elements that the page does not have", n)
			}
			x.see(looks[1])
			if wide := eval[int64](x, "document.documentElement.scrollWidth"); wide > looks[1].width {
				t.Errorf("%d pixels wide on a phone", wide)
			}
		})
	}
}

// The policy holds: not even the page itself could make elements from text, run inline scripts, or ask others.
func TestPolicy(t *testing.T) {
	x := newTab(t, begin(t, 3)) // its errors are expected
	x.do(chromedp.Navigate(x.url))
	for name, script := range map[string]string{
		"markup":            `try { document.body.innerHTML = '<b>x</b>'; 'done' } catch (e) { 'blocked' }`,
		"an inline script":  `{ const s = document.createElement('script'); s.id = 'inline'; s.append('document.title = "done"'); try { document.body.append(s) } catch {} document.title === 'done' ? 'done' : 'blocked' }`,
		"eval":              `new Promise(r => setTimeout(() => { try { (0, eval)('1'); r('done') } catch { r('blocked') } }))`,
		"a style":           `{ const e = document.createElement('p'); e.setAttribute('style', 'color: red'); document.body.append(e); e.style.color === 'red' ? 'done' : 'blocked' }`,
		"a request":         `fetch('http://127.0.0.2:1/').then(() => 'done', () => 'blocked')`,
		"a request by name": `fetch('http://localhost:' + location.port + '/page/v1alpha1/overview').then(() => 'done', () => 'blocked')`,
	} {
		if got := eval[string](x, script); got != "blocked" {
			t.Errorf("%s: %s", name, got)
		}
	}
}
