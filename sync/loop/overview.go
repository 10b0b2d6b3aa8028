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

// A Sync had work: as many passes as it took until everything was programmed or failed.
type Sync struct {
	Began    time.Time
	Took     time.Duration
	Services int      // that were planned
	Err      error    // nil: everything was programmed
	Repaired []string // components with external changes that were repaired
	Times    int      // that it failed in this way, one after the other
}

// maxSyncs bounds each list of a history.
const maxSyncs = 30

// A history has the current sync, and the last ones, oldest first. Those that failed or repaired something are kept longer: a busy
// cluster has many others.
type history struct {
	began           time.Time // of the current sync, or zero
	planned         int       // Services, in the current sync
	recent, notable []Sync
}

// end notes the end of the current sync.
func (h *history) end(err error, repaired []string) {
	s := Sync{Began: h.began, Took: time.Since(h.began), Services: h.planned, Err: err, Repaired: repaired, Times: 1}
	h.began, h.planned = time.Time{}, 0
	h.recent = keep(h.recent, s)
	if s.Err == nil && len(s.Repaired) == 0 {
		return
	}
	if n := len(h.notable); n > 0 && s.Err != nil {
		if last := h.notable[n-1]; last.Err != nil && last.Err.Error() == s.Err.Error() {
			s.Times += last.Times
			h.notable = h.notable[:n-1]
		}
	}
	h.notable = keep(h.notable, s)
}

// keep appends a sync to the last ones.
func keep(syncs []Sync, s Sync) []Sync {
	if len(syncs) >= maxSyncs {
		syncs = slices.Delete(syncs, 0, 1)
	}
	return append(syncs, s)
}

// newestFirst returns a reversed copy.
func newestFirst(syncs []Sync) []Sync {
	out := slices.Clone(syncs)
	slices.Reverse(out)
	return out
}

// An Overview is the state of a node as a whole.
type Overview struct {
	Recent  []Sync // newest first
	Notable []Sync // failed, or with repairs, newest first
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
