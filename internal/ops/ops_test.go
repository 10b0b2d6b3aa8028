package ops

import (
	"errors"
	"os"
	"testing"
	"time"
)

func TestEach(t *testing.T) {
	for _, tt := range []struct {
		name string
		bad  time.Duration
		want string
	}{
		{"all well", 0, ""},
		{"one fails", 2, "2ns: file does not exist"},
	} {
		var done []time.Duration
		errs := Each([]time.Duration{1, 2, 3}, func(op time.Duration) error {
			done = append(done, op)
			if op == tt.bad {
				return os.ErrNotExist
			}
			return nil
		})
		if len(done) != 3 {
			t.Errorf("%s: done %v", tt.name, done)
		}
		err := errors.Join(errs...)
		if tt.want == "" && errs != nil || tt.want != "" && (len(errs) != 3 || err.Error() != tt.want || !errors.Is(errs[1], os.ErrNotExist)) {
			t.Errorf("%s: %v, want %q", tt.name, errs, tt.want)
		}
	}
}
