package loop

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// The overview has the passes with work, newest first; and those that failed or repaired something, a repeated failure once.
func TestOverview(t *testing.T) {
	run(t, func(f *fake) {
		refused := errors.New("add X: refused")
		pass := func(err error, idle bool, repaired ...string) {
			f.result = Result{Err: err, Idle: idle, Repaired: repaired}
			f.set("a", "10.96.0.1", 1)
			f.free(func() { time.Sleep(time.Minute) }) // retries are over
			f.result = Result{Idle: true}
			f.take()
		}
		f.queue.Synced()
		f.take()
		pass(nil, false)
		pass(refused, true)
		pass(nil, false, "rules", "sets")
		for range 2 * maxSyncs {
			pass(nil, false)
		}
		var got Overview
		var err error
		f.free(func() { got, err = f.loop.Overview(context.Background()) })
		if err != nil || len(got.Recent) != maxSyncs || got.Recent[0].Services != 1 || !got.Recent[0].Began.After(got.Recent[1].Began) {
			t.Errorf("%v; recent: %+v", err, got.Recent)
		}
		var notable []string
		for _, p := range got.Notable {
			notable = append(notable, fmt.Sprint(p.Err, p.Repaired, p.Times > 1))
		}
		expect(t, "notable", notable, "<nil> [rules sets] false", "add X: refused [] false")
		expect(t, "to ask costs the data plane nothing", f.take())
	})
}

// A history is bounded, and counts a failure that lasts once.
func TestHistory(t *testing.T) {
	var h history
	end := func(err error, repaired ...string) { h.began = time.Now(); h.end(err, repaired) }
	for range 100 {
		end(errors.New("refused"))
	}
	end(errors.New("also refused"))
	if len(h.recent) != maxSyncs || len(h.notable) != 2 || h.notable[0].Times != 100 || h.notable[1].Times != 1 {
		t.Errorf("%d recent; notable %+v", len(h.recent), h.notable)
	}
	for range 100 {
		end(nil, "sets")
	}
	if len(h.notable) != maxSyncs {
		t.Errorf("%d notable", len(h.notable))
	}
}
