//go:build kernel

package packet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/lab"
)

// fate is what came of a request in one word: "answered", "refused", "silence", or an error that is none of these.
func fate(a lab.Answer) string {
	switch {
	case errors.Is(a.Err, lab.ErrRefused):
		return "refused"
	case errors.Is(a.Err, lab.ErrSilence):
		return "silence"
	case a.Err != nil:
		return a.Err.Error()
	}
	return "answered"
}

// patience is how long to wait for an answer: long if there is to be one, since the machine may be busy.
func patience(want outcome) time.Duration {
	if want.fate == "silence" {
		return 500 * time.Millisecond
	}
	return 5 * time.Second
}

// A question is a request that a test sends.
type question struct {
	from  source
	proto inet.Protocol
	at    netip.AddrPort
}

func (q question) String() string { return fmt.Sprintf("%s to %v %v", q.from, q.proto, q.at) }

// ask asks one question.
func (w *world) ask(q question, wait time.Duration) lab.Answer {
	return w.Ask(context.Background(), w.host(q.from), q.proto, q.at, lab.Wait(wait))
}

// expect asks questions, some at a time, and complains about those that end otherwise. It returns how many there were.
func (w *world) expect(t *testing.T, want map[question]string) int {
	t.Helper()
	work := make(chan question)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for q := range work {
				if a := w.ask(q, patience(outcome{fate: want[q]})); fate(a) != want[q] {
					t.Errorf("%v: %v, want %s", q, a, want[q])
				}
			}
		})
	}
	for q := range want {
		work <- q
	}
	close(work)
	wg.Wait()
	return len(want)
}

// A prober asks questions in turn, again and again.
type prober struct {
	stop chan struct{}
	work sync.WaitGroup

	mu    sync.Mutex
	fates map[string]int // how often each came
	first map[string]string
}

// probe asks one question every interval, without waiting for the answers to those before.
func (w *world) probe(every time.Duration, questions ...question) *prober {
	p := &prober{stop: make(chan struct{}), fates: map[string]int{}, first: map[string]string{}}
	p.work.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
				q := questions[i%len(questions)]
				p.work.Go(func() { p.note(q, w.ask(q, 500*time.Millisecond)) })
			case <-p.stop:
				return
			}
		}
	})
	return p
}

func (p *prober) note(q question, a lab.Answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := fate(a)
	p.fates[f]++
	if p.first[f] == "" {
		p.first[f] = fmt.Sprintf("%v: %v", q, a)
	}
}

// end stops asking and returns how often each fate came.
func (p *prober) end() map[string]int {
	close(p.stop)
	p.work.Wait()
	return p.fates
}

// String tells how often each fate came, after end.
func (p *prober) String() string {
	var out []string
	for _, f := range slices.Sorted(maps.Keys(p.fates)) {
		out = append(out, fmt.Sprintf("%d %s", p.fates[f], f))
	}
	return strings.Join(out, ", ")
}

// within waits until something is so, and returns how long it took.
func within(t *testing.T, limit time.Duration, what string, so func() bool) time.Duration {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		ok, took := so(), time.Since(begin)
		if ok && took <= limit {
			return took.Round(time.Millisecond)
		}
		if took > limit {
			t.Errorf("%s: not within %v", what, limit)
			return took
		}
	}
}
