package status

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// share bounds the cost of shared results: one that took d to make serves for share × d at least, so it takes a fiftieth of
	// one CPU at most, however many ask.
	share = 50
	// forgetAfter is the time without askers after which a result is forgotten.
	forgetAfter = time.Minute
)

// A shared is a result about all Services, which is dear. Askers at the same time share one, and later ones as long as it is young.
type shared[T any] struct {
	age  time.Duration // up to which a result is young, at least
	make func(ctx context.Context, before *T) (T, error)

	flight singleflight.Group
	mu     sync.Mutex // guards the following
	last   *T         // nil: none, or forgotten
	due    time.Time  // of the next one
	forget *time.Timer
}

// get returns a young result. It outlives the asker that had it made.
func (s *shared[T]) get(ctx context.Context) (T, error) {
	if last := s.young(); last != nil {
		return *last, nil
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

// young returns the last result, if it is young.
func (s *shared[T]) young() *T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || !time.Now().Before(s.due) {
		return nil
	}
	s.forget.Reset(forgetAfter)
	return s.last
}

// renew makes a result.
func (s *shared[T]) renew(ctx context.Context) (*T, error) {
	if last := s.young(); last != nil { // made since the asker looked
		return last, nil
	}
	s.mu.Lock()
	before := s.last
	s.mu.Unlock()
	begin := time.Now()
	now, err := s.make(ctx, before)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.due = &now, time.Now().Add(max(s.age, share*time.Since(begin)))
	if s.forget == nil {
		s.forget = time.AfterFunc(forgetAfter, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.last = nil
		})
	}
	s.forget.Reset(forgetAfter)
	return s.last, nil
}
