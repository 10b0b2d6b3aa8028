package vip

import (
	"fmt"
	"net/netip"
	"os"
)

// check says what is wrong with an op: os.ErrInvalid. It refuses what the kernel refuses, and what the kernel would
// keep as something else.
func (op Op) check() error {
	if reason := op.Item.wrong(op.Verb); reason != "" {
		return fmt.Errorf("%w: %s", os.ErrInvalid, reason)
	}
	return nil
}

func (i Item) wrong(verb Verb) string {
	p, a := i.Prefix, i.Prefix.Addr()
	switch {
	case i.Kind > Address:
		return "no such kind"
	case i.Mark != 0 && i.Kind != Divert && i.Kind != Refuse:
		return "a mark is for divert and refuse only"
	case i.Mask != 0 && i.Kind != Refuse:
		return "a mask is for refuse only"
	case i.Kind == Link && p != netip.Prefix{}:
		return "the link has no prefix"
	case i.Kind == Link:
		return ""
	case !p.IsValid() || a.Is4In6():
		return "no prefix"
	case i.Kind != Address && p != p.Masked():
		return "bits beyond the prefix length"
	}
	switch i.Kind {
	case Divert, LastResort, Refuse, RefuseRoute:
		if p.Bits() != 0 || !a.IsUnspecified() {
			return "the prefix must be 0.0.0.0/0 or ::/0"
		}
		if (i.Kind == Divert || i.Kind == Refuse) && i.Mark == 0 && verb == Add {
			return "a mark of 0 is on every packet"
		}
	case Address:
		if !p.IsSingleIP() && verb == Add {
			return "an address must have a prefix of full length"
		}
	}
	return ""
}
