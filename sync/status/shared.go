package status

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// share bounds the cost of shared results: one that took d to make serves for share × d at least, so it takes a fiftieth of
	// one CPU at most, however many ask.
	share = 50
	// forgetAfter is the time without askers after which a result is forgotten, unless it still serves.
	forgetAfter = time.Minute
	// firstPause bounds the time for which a first failure serves. It doubles with each further one, up to share × d: one failure hides
	// nothing for long, and many take a fiftieth, too.
	firstPause = time.Minute
	// maxDoubled bounds the doubling, to far more than share × answerLimit.
	maxDoubled = 10
)

// A shared is a result about all Services, which is dear. Askers at the same time share one, and later ones as long as it is young.
// A failure is a result, too.
type shared[T any] struct {
	age  time.Duration // up to which a result is young, at least
	make func(ctx context.Context, before *T) (T, error)

	flight   singleflight.Group
	mu       sync.Mutex // guards the following
	last     *T         // nil: none, or forgotten
	err      error      // of the failure since then; nil: there was none
	failures int        // one after the other
	due      time.Time  // of the next result
	forget   *time.Timer
}

// get returns a young result. It outlives the asker that had it made.
func (s *shared[T]) get(ctx context.Context) (T, error) {
	if last, err := s.young(); last != nil {
		return *last, nil
	} else if err != nil {
		return *new(T), err
	}
	made := s.flight.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerLimit)
		defer cancel()
		return s.renew(ctx)
	})
	select {
	case r := <-made:
		if r.Err != nil {
			return *new(T), r.Err
		}
		return *r.Val.(*T), nil
	case <-ctx.Done():
		return *new(T), context.Cause(ctx)
	}
}

// young returns the last result, or its error, if it is young.
func (s *shared[T]) young() (*T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := time.Until(s.due)
	switch {
	case left <= 0:
		return nil, nil
	case s.err != nil:
		return nil, fmt.Errorf("%w; next attempt in %v", s.err, left.Round(time.Second))
	}
	s.keep()
	return s.last, nil
}

// keep puts off when the last result is forgotten. One that is due later would be made too often without it.
func (s *shared[T]) keep() {
	left := max(forgetAfter, time.Until(s.due))
	if s.forget != nil {
		s.forget.Reset(left)
		return
	}
	s.forget = time.AfterFunc(left, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.last = nil
	})
}

// renew makes a result.
func (s *shared[T]) renew(ctx context.Context) (*T, error) {
	if last, err := s.young(); last != nil || err != nil { // made since the asker looked
		return last, err
	}
	s.mu.Lock()
	before := s.last
	s.mu.Unlock()
	begin := time.Now()
	now, err := s.make(ctx, before)
	s.mu.Lock()
	defer s.mu.Unlock()
	pause := share * time.Since(begin)
	if s.err = err; err != nil {
		s.due = time.Now().Add(min(pause, firstPause<<min(s.failures, maxDoubled)))
		s.failures++
		return nil, err
	}
	s.last, s.failures, s.due = &now, 0, time.Now().Add(max(s.age, pause))
	s.keep()
	return s.last, nil
}
