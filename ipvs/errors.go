package ipvs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoModule means that the running kernel has no IPVS; loading its module helps.
var ErrNoModule = errors.New("the kernel has no IPVS (modprobe ip_vs)")

// translate adds the errors of package os to the kernel's numbers. Package syscall does that for ENOENT, EEXIST, EPERM
// and EACCES; the kernel also returns ESRCH for a missing virtual server (ip_vs_genl_set_cmd in
// net/netfilter/ipvs/ip_vs_ctl.c).
func translate(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%w: %w", os.ErrNotExist, err)
	}
	return err
}

// opErrors returns the errors of ops, given the kernel's answers, or nil if all succeeded.
func opErrors(ops []Op, answer func(i int) error) (errs []error) {
	for i, op := range ops {
		err := op.error(answer(i))
		if err != nil && errs == nil {
			errs = make([]error, len(ops))
		}
		if err != nil {
			errs[i] = err
		}
	}
	return errs
}

// error returns the error of an op, given the kernel's answer. Deleting a missing object is none.
func (op Op) error(answer error) error {
	err := op.invalid()
	if err == nil {
		err = translate(answer)
	}
	if err == nil || op.deletes() && errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%v: %w", op, err)
}

func (op Op) deletes() bool { return op.Verb == DelServer || op.Verb == DelReal }

// indexes returns the indices of the errors that match target.
func indexes(errs []error, target error) (at []int) {
	for i, err := range errs {
		if errors.Is(err, target) {
			at = append(at, i)
		}
	}
	return at
}
