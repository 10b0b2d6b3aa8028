// Package ops carries out lists of operations and counts them.
package ops

import "fmt"

// Each carries out the operations in order and returns one error for each, which begins with the operation as it
// prints, or nil if all succeeded. A failed one does not stop the others.
func Each[Op fmt.Stringer](list []Op, do func(Op) error) (errs []error) {
	for i, op := range list {
		err := do(op)
		if err == nil {
			continue
		}
		if errs == nil {
			errs = make([]error, len(list))
		}
		errs[i] = fmt.Errorf("%v: %w", op, err)
	}
	return errs
}
