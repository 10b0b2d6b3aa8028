package ipset

import "errors"

// The errors of sets, beside those of package os.
var (
	ErrFull  = errors.New("set is full")
	ErrInUse = errors.New("set is in use by a rule")
)
