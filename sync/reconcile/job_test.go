package reconcile

import (
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestJob(t *testing.T) {
	var run func()
	j := Job{Start: func(work func()) { run = work }}
	j.TakeOver() // of nothing
	taken := 0
	j.Begin(func() func() { return func() { taken++ } })
	j.TakeOver()
	if taken != 0 {
		t.Fatal("an answer was taken over before it was there")
	}
	run()
	j.TakeOver()
	j.TakeOver()
	if taken != 1 {
		t.Errorf("the answer was taken over %d times", taken)
	}
}

// Checks in vain pause polls longer and longer; a check that finds something, and a long time without any, end that.
func TestThrottle(t *testing.T) {
	now := time.Unix(1000, 0)
	throttle := Throttle{Min: time.Second, Max: time.Minute}
	for _, tt := range []struct {
		name   string
		do     func()
		pauses time.Duration
	}{
		{"nothing happened", func() {}, 0},
		{"a check that no poll led to", func() { throttle.Checked(true) }, 0},
		{"one in vain", func() { throttle.Polled(now); throttle.Checked(true) }, time.Second},
		{"another", func() { now = now.Add(time.Second); throttle.Polled(now); throttle.Checked(true) }, 2 * time.Second},
		{"many", func() {
			for range 10 {
				now = now.Add(time.Minute - time.Second)
				throttle.Polled(now)
				throttle.Checked(true)
			}
		}, time.Minute},
		{"a minute after the pause", func() { now = now.Add(2 * time.Minute); throttle.Polled(now); throttle.Checked(true) }, time.Second},
		{"not in vain", func() { now = now.Add(time.Second); throttle.Polled(now); throttle.Checked(false) }, 0},
		{"in vain and reset", func() { throttle.Polled(now); throttle.Checked(true); throttle.Reset() }, 0},
	} {
		tt.do()
		if throttle.Pauses(now.Add(tt.pauses)) || tt.pauses > 0 && !throttle.Pauses(now.Add(tt.pauses-1)) {
			t.Errorf("%s: not a pause of %v", tt.name, tt.pauses)
		}
	}
}

// Retries come later and later, the same failure is news once in a while, and changes meanwhile put nothing off. Another failure starts
// again, but not soon after a start.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{Min: time.Second, Max: 4 * time.Second, Remind: time.Minute}
		one, other := errors.New("one"), errors.New("other")
		for i, step := range []struct {
			err    error
			after  time.Duration
			isNews bool
		}{{nil, 0, false}, {one, time.Second, true}, {one, 2 * time.Second, false}, {other, 4 * time.Second, true}, {other, 4 * time.Second, false},
			{one, time.Second, true}, {other, 2 * time.Second, true}, {nil, 0, false}, {other, time.Second, true}} {
			after, isNews := b.Note(step.err)
			if after != step.after || isNews != step.isNews {
				t.Errorf("step %d: retry after %v, news: %v; want %v, %v", i, after, isNews, step.after, step.isNews)
			}
			if step.err == nil {
				continue
			}
			timer := b.Timer
			if after, isNews := b.Note(step.err); after != 0 || isNews || b.Timer != timer {
				t.Errorf("step %d: a failure meanwhile puts the retry off", i)
			}
			begin := time.Now()
			<-b.Timer
			if waited := time.Since(begin); waited != step.after {
				t.Errorf("step %d: retried after %v", i, waited)
			}
			b.Fired()
		}
		b.Note(nil)
		b.Note(one)
		b.Fired()
		time.Sleep(time.Minute)
		if _, isNews := b.Note(one); !isNews {
			t.Error("the same failure is never told again")
		}
	})
}

// Another failure does not wait for a retry that is due late, and brings none forward that is due soon.
func TestBackoffMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{Min: time.Second, Max: time.Minute, Remind: time.Hour}
		for range 20 {
			b.Note(errors.New("one"))
			<-b.Timer
			b.Fired()
		}
		b.Note(errors.New("one"))
		time.Sleep(30 * time.Second)
		if after, isNews := b.Note(errors.New("other")); after != time.Second || !isNews {
			t.Errorf("another failure is retried after %v, news: %v", after, isNews)
		}
		begin := time.Now()
		<-b.Timer
		b.Fired()
		if waited := time.Since(begin); waited != time.Second {
			t.Errorf("retried after %v", waited)
		}
		time.Sleep(3 * time.Hour)
		b.Note(errors.New("other"))
		timer := b.Timer
		time.Sleep(59 * time.Second)
		if after, _ := b.Note(errors.New("one")); after != 0 || b.Timer != timer {
			t.Error("a retry that is due at once is put off")
		}
	})
}

// Failures whose text never stays the same are hardly retried more often than others.
func TestBackoffIsBounded(t *testing.T) {
	retries := func(text func(i int) string) (n int) {
		synctest.Test(t, func(t *testing.T) {
			b := Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second, Remind: 10 * time.Minute}
			changes := time.NewTicker(70 * time.Millisecond)
			defer changes.Stop()
			for i, begin := 0, time.Now(); time.Since(begin) < 4*time.Hour; i++ {
				b.Note(errors.New(text(i)))
				select {
				case <-b.Timer:
					b.Fired()
					n++
				case <-changes.C:
				}
			}
		})
		return n
	}
	same := retries(func(int) string { return "same" })
	for name, text := range map[string]func(i int) string{
		"a counter":    strconv.Itoa,
		"two":          func(i int) string { return strconv.Itoa(i % 2) },
		"now and then": func(i int) string { return strconv.Itoa(i / 1000) },
	} {
		if n := retries(text); n > same*12/10 {
			t.Errorf("%s: %d retries in four hours, and %d of the same failure", name, n, same)
		}
	}
}
