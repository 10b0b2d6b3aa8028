package ipvsmode

import "context"

// A shared is something of the kernel that two layers hold parts of. It is read once for both of them.
type shared[T any] struct {
	read func(context.Context) (T, error)

	value  T
	isRead bool
}

// get returns what is there, as it was read since forget.
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
