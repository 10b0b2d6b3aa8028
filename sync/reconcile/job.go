package reconcile

import "time"

// A Job does work in the background for a layer, one piece at a time: work that runs commands, which wait for locks of others
// and may hang. Only its owner touches the layer, since TakeOver calls the function that the work returns.
type Job struct {
	Start func(work func()) // runs work in the background; the layer is observed when it ends

	answer chan func() // nil: no work is running
}

// Begin starts work, which returns a function that takes its answer over.
func (j *Job) Begin(work func() (takeOver func())) {
	answer := make(chan func(), 1)
	j.answer = answer
	j.Start(func() { answer <- work() })
}

// TakeOver takes the answer over if there is one.
func (j *Job) TakeOver() {
	select {
	case takeOver := <-j.answer:
		j.answer = nil
		takeOver()
	default:
	}
}

// A Throttle spaces checks in vain. Its owner polls a cheap indicator that others change, too; a change is a reason for a
// check, which is expensive. Each check in vain doubles the pause before the next poll.
type Throttle struct {
	Min, Max time.Duration // of a pause

	polled time.Time     // when a poll led to the running check, or zero
	pause  time.Duration // the last one
	until  time.Time     // its end
}

// Polled notes that a poll leads to a check.
func (t *Throttle) Polled(now time.Time) { t.polled = now }

// Checked notes the end of a check. In vain: it found no change.
func (t *Throttle) Checked(inVain bool) {
	if at := t.polled; inVain && !at.IsZero() {
		if at.Sub(t.until) >= t.Max {
			t.pause = 0 // no change for as long
		}
		t.pause = min(max(2*t.pause, t.Min), t.Max)
		t.until = at.Add(t.pause)
	}
	t.polled = time.Time{}
}

// Reset ends a pause.
func (t *Throttle) Reset() { t.pause, t.until = 0, time.Time{} }

// Pauses reports whether it is too early for a poll.
func (t *Throttle) Pauses(now time.Time) bool { return now.Before(t.until) }

// A Backoff schedules retries: changes meanwhile neither wait for them nor postpone them. Each retry of the same failure comes later. A
// failure that differs starts again with Min: others may have failed for longer, and it may be over at once. Failures that differ all the
// time do so less and less often.
type Backoff struct {
	Min, Max time.Duration    // of the time until a retry
	Remind   time.Duration    // after which the same failure is news again, and the longest time until another may start again
	Timer    <-chan time.Time // fires when a retry is due; nil: none is scheduled

	due    time.Time // when the timer fires
	next   time.Duration
	starts Throttle  // of those with Min
	last   string    // the last failure that was news
	lastAt time.Time // its time
}

// Fired notes that the timer fired.
func (b *Backoff) Fired() { b.Timer = nil }

// Note notes the result of a sync, and schedules a retry after a failure unless one is scheduled that is not too late for it. It
// returns the time until the retry, and reports whether the failure is news.
func (b *Backoff) Note(err error) (after time.Duration, isNews bool) {
	if err == nil {
		*b = Backoff{Min: b.Min, Max: b.Max, Remind: b.Remind}
		return 0, false
	}
	now, said := time.Now(), err.Error()
	starts := said != b.last && !b.starts.Pauses(now)
	if b.Timer != nil && (!starts || b.due.Sub(now) <= b.Min) {
		return 0, false
	}
	if starts {
		b.next = 0
		b.starts.Min, b.starts.Max = b.Max, b.Remind
		b.starts.Polled(now)
		b.starts.Checked(true)
	}
	if said != b.last || now.Sub(b.lastAt) >= b.Remind {
		isNews, b.last, b.lastAt = true, said, now
	}
	after = max(b.next, b.Min)
	b.Timer, b.due, b.next = time.After(after), now.Add(after), min(2*after, b.Max)
	return after, isNews
}
