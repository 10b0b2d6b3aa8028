package ipvs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoModule says that the running kernel has no IPVS. Loading its module is what helps.
var ErrNoModule = errors.New("the kernel has no IPVS (modprobe ip_vs)")

// atEdge turns the kernel's numbers into the errors of package os and keeps their text. ENOENT, EEXIST, EPERM and EACCES
// are known to package syscall; the kernel also says ESRCH for a virtual server that is not there
// (ip_vs_genl_set_cmd in net/netfilter/ipvs/ip_vs_ctl.c).
func atEdge(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%w: %w", os.ErrNotExist, err)
	}
	return err
}

// judge returns what the kernel's answers to ops are to the caller, or nil if all is well.
func judge(ops []Op, answer func(i int) error) (errs []error) {
	for i, op := range ops {
		err := op.verdict(answer(i))
		if err != nil && errs == nil {
			errs = make([]error, len(ops))
		}
		if err != nil {
			errs[i] = err
		}
	}
	return errs
}

// verdict returns what the kernel's answer to an op is to the caller: nothing where a deletion found nothing to delete.
func (op Op) verdict(answer error) error {
	err := op.invalid()
	if err == nil {
		err = atEdge(answer)
	}
	if err == nil || op.deletes() && errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%v: %w", op, err)
}

func (op Op) deletes() bool { return op.Verb == DelServer || op.Verb == DelReal }

// indexes returns where the errors are of a kind.
func indexes(errs []error, target error) (at []int) {
	for i, err := range errs {
		if errors.Is(err, target) {
			at = append(at, i)
		}
	}
	return at
}
