package browser

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// views are the addresses of all views.
var views = []string{"#/", "#/service?namespace=shop&service=web-00000", "#/traffic", "#/drains", "#/unserved", "#/node", "#/explain?to=10.96.0.1:80"}

func escape(s string) string { return url.QueryEscape(s) }

// expect allows the noted errors that contain a text; there must be one.
func (x *tab) expect(text string) {
	x.t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	before := len(x.wrong)
	x.wrong = slices.DeleteFunc(x.wrong, func(s string) bool { return strings.Contains(s, text) })
	if len(x.wrong) == before {
		x.t.Errorf("nothing about %q went wrong", text)
	}
}

// Without a mouse: the first key leads to the content, all links and controls follow with a visible focus, and "/" to the search.
func TestKeyboard(t *testing.T) {
	x := begin(t, 3).open(t, "")
	x.drawn()
	x.key(kb.Tab)
	if got := x.focused(); got != "A skip" || eval[float64](x, "document.activeElement.getBoundingClientRect().left") < 0 {
		t.Errorf("the first is %s", got)
	}
	x.key(kb.Enter)
	if got := x.focused(); got != "MAIN main" {
		t.Errorf("it leads to %s", got)
	}
	x.key("/")
	if got := x.focused(); got != "INPUT search" {
		t.Errorf("/ leads to %s", got)
	}
	x.enter("#search", "") // the protocol sends the character on its own, whatever becomes of the key
	x.focus("header a")
	var got []string
	for range 40 {
		got = append(got, x.focused())
		if !eval[bool](x, "document.activeElement.matches(':focus-visible') && getComputedStyle(document.activeElement).outlineStyle !== 'none'") {
			t.Errorf("the focus at %s is not visible", x.focused())
		}
		if x.focused() == "BUTTON pause" {
			break
		}
		x.key(kb.Tab)
	}
	want := eval[[]string](x, `[...document.querySelectorAll('header a, #lead a, #form input, #form select, #form button, #view a, #pause')].map(e => e.tagName + ' ' + (e.id || e.textContent.trim()))`)
	if !slices.Equal(got, want) {
		t.Errorf("Tab leads to\n%q, want\n%q", got, want)
	}
	x.key(" ")
	x.has("paused")
	x.key(" ")
	x.focus(`tbody a[href*="web-00000"]`)
	x.key(kb.Enter)
	x.has("Frontends")
}

// Controls have labels, links have texts, tables have captions, and headings go down one by one.
func TestNamesOfElements(t *testing.T) {
	w := begin(t, 10)
	for _, view := range views {
		t.Run(view, func(t *testing.T) {
			x := w.open(t, view)
			x.drawn()
			for what, expression := range map[string]string{
				"controls without a label":      `[...document.querySelectorAll('input, select')].filter(e => !e.labels.length)`,
				"links or buttons without text": `[...document.querySelectorAll('a, button')].filter(e => !(e.getAttribute('aria-label') || e.textContent.trim()))`,
				"tables without a caption":      `[...document.querySelectorAll('table')].filter(e => !e.caption)`,
				"pictures without a text":       `[...document.querySelectorAll('svg')].filter(e => !e.getAttribute('aria-label'))`,
				"doubled ids":                   `[...document.querySelectorAll('[id]')].filter((e, i, all) => all.findIndex(o => o.id === e.id) !== i)`,
				"headings out of order":         `[...document.querySelectorAll('h1, h2, h3')].filter((e, i, all) => i ? e.tagName > 'H' + (Number(all[i - 1].tagName[1]) + 1) : e.tagName !== 'H1')`,
			} {
				if got := eval[[]string](x, expression+".map(e => e.outerHTML.slice(0, 100))"); len(got) > 0 {
					t.Errorf("%s: %q", what, got)
				}
			}
			if low := eval[[]string](x, contrast); len(low) > 0 {
				t.Errorf("low contrast: %q", low)
			}
		})
	}
}

// contrast is an expression: the texts whose contrast to their ground is less than 4.5 to 1.
const contrast = `(() => {
  const rgb = s => s.match(/[\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c } return [255, 255, 255] };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), out = [];
  for (let n; n = texts.nextNode();) {
    const e = n.parentElement;
    if (!n.data.trim() || !e.getClientRects().length) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) out.push(n.data.trim().slice(0, 40) + ' ' + ratio.toFixed(1));
  }
  return out;
})()`
