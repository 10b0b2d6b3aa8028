package ipvsmode

import "context"

// A shared is a kernel object with parts in two layers, read once for both.
type shared[T any] struct {
	read func(context.Context) (T, error)

	value  T
	isRead bool
}

// get returns the value, read once since forget.
func (s *shared[T]) get(ctx context.Context) (T, error) {
	if s.isRead {
		return s.value, nil
	}
	value, err := s.read(ctx)
	if err == nil {
		s.value, s.isRead = value, true
	}
	return value, err
}

// forget makes the next get read.
func (s *shared[T]) forget() { *s = shared[T]{read: s.read} }
