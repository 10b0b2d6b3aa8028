package loop

import (
	"context"
	"slices"
	"time"
)

// A Reporter is a Dataplane that reports the state of its objects.
type Reporter interface {
	Report() Report
}

// A Report is the state of a data plane's objects.
type Report struct {
	Layers  []LayerState
	Changes []ExternalChange // by component, in order; those without any are left out
}

// A LayerState is the state of all kernel objects of one kind.
type LayerState struct {
	Name                    string
	Known, Pending, Failing int
	Err                     error // the first failures; nil: there are none
}

// An ExternalChange counts the changes of a component that others made.
type ExternalChange struct {
	Component       string
	Found, Repaired int
	Last            time.Time // when one was found
}

// A Pass is a sync with work, from its beginning until everything was programmed or failed.
type Pass struct {
	Began    time.Time
	Took     time.Duration
	Services int      // that were planned
	Err      error    // nil: everything was programmed
	Repaired []string // components with external changes that were repaired
	Times    int      // that it failed in this way, one after the other
}

// maxPasses bounds each list of a history.
const maxPasses = 30

// A history has the current pass, and the last ones, oldest first. Those that failed or repaired something are kept longer: a busy
// cluster has many others.
type history struct {
	began           time.Time // of the current pass, or zero
	planned         int       // Services, in the current pass
	recent, notable []Pass
}

// end notes the end of the current pass.
func (h *history) end(err error, repaired []string) {
	p := Pass{Began: h.began, Took: time.Since(h.began), Services: h.planned, Err: err, Repaired: repaired, Times: 1}
	h.began, h.planned = time.Time{}, 0
	h.recent = keep(h.recent, p)
	if p.Err == nil && len(p.Repaired) == 0 {
		return
	}
	if n := len(h.notable); n > 0 && p.Err != nil {
		if last := h.notable[n-1]; last.Err != nil && last.Err.Error() == p.Err.Error() {
			p.Times += last.Times
			h.notable = h.notable[:n-1]
		}
	}
	h.notable = keep(h.notable, p)
}

// keep appends a pass to the last ones.
func keep(passes []Pass, p Pass) []Pass {
	if len(passes) >= maxPasses {
		passes = slices.Delete(passes, 0, 1)
	}
	return append(passes, p)
}

// newestFirst returns a reversed copy.
func newestFirst(passes []Pass) []Pass {
	out := slices.Clone(passes)
	slices.Reverse(out)
	return out
}

// An Overview is the state of a node as a whole.
type Overview struct {
	Recent  []Pass // newest first
	Notable []Pass // failed, or with repairs, newest first
	Waiting int    // Services with changes that are not programmed yet
	Report         // empty, if the data plane is no Reporter
}

// Overview returns the state of this node. It may be called from any goroutine.
func (l *Loop) Overview(ctx context.Context) (out Overview, err error) {
	reporter, _ := l.dataplane.(Reporter)
	err = l.ask(ctx, func() {
		out = Overview{Recent: newestFirst(l.history.recent), Notable: newestFirst(l.history.notable), Waiting: len(l.waiting)}
		if reporter != nil {
			out.Report = reporter.Report()
		}
	})
	return out, err
}
