package ipset

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"kube-ipvs/internal/netlink"
)

// The errors of sets, besides those of package os.
var (
	ErrFull     = errors.New("set is full")
	ErrInUse    = errors.New("set is in use by a rule")
	ErrNoMember = errors.New("not in the set") // the result of a Test
)

// translate replaces ipset's own error numbers, unknown to package syscall, by texts and by targets of errors.Is.
func translate(err error) error {
	var e *netlink.Error
	if !errors.As(err, &e) || e.Errno < errnoPrivate {
		return err
	}
	switch e.Errno {
	case errnoExist: // of IPSET_CMD_TEST alone: Add and Del are sent without NLM_F_EXCL
		return ErrNoMember
	case errnoHashFull:
		return ErrFull
	case errnoBusy, errnoReferenced:
		return ErrInUse
	case errnoFindType:
		return fmt.Errorf("%w: the kernel has no such set type", errors.ErrUnsupported)
	case errnoMaxSets:
		return errors.New("the kernel has its maximum number of sets")
	}
	return fmt.Errorf("%w: %s", os.ErrInvalid, invalidText(e.Errno))
}

func invalidText(errno syscall.Errno) string {
	switch errno {
	case errnoProtocol:
		return "the kernel does not understand the request for this set"
	case errnoTypeMismatch:
		return "the set is of another type"
	case errnoInvalidCIDR:
		return "prefix length"
	case errnoInvalidFamily, errnoNotIPv4, errnoNotIPv6:
		return "address family"
	case errnoSkbInfo:
		return "the set has no marks (it was created without skbinfo)"
	case errnoHashElem:
		return "a set of this type cannot hold the unspecified address"
	case errnoInvalidProto, errnoMissingProto:
		return "protocol"
	}
	return fmt.Sprintf("ipset error %d", uint(errno))
}
