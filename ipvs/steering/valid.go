package steering

import (
	"fmt"
	"net/netip"
	"os"
)

// check returns os.ErrInvalid for an invalid op: the kernel would refuse it or store another object.
func (op Op) check() error {
	if reason := op.Item.fault(op); reason != "" {
		return fmt.Errorf("%w: %s", os.ErrInvalid, reason)
	}
	return nil
}

func (i Item) fault(op Op) string {
	p, a := i.Prefix, i.Prefix.Addr()
	switch {
	case i.Kind > Address:
		return "no such kind"
	case i.Rule != Rule{} && i.Kind != Policy:
		return "a rule is for policies only"
	case op.Source.IsValid() && (i.Kind != Local || op.Source.Is4() != a.Is4()):
		return "a source is for local prefixes of its family only"
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
	case Policy:
		if p.Bits() != 0 || !a.IsUnspecified() {
			return "the prefix must be 0.0.0.0/0 or ::/0"
		}
		return i.Rule.fault()
	case Address, Refuse:
		if !p.IsSingleIP() && op.Verb == Add {
			return "the prefix must have full length"
		}
	}
	return ""
}

func (r Rule) fault() string {
	switch {
	case r.Mark&^r.Mask != 0:
		return "bits of the mark beyond its mask"
	case (r.Table == 0) == (r.Goto == 0):
		return "a rule needs either a table or a goto"
	case r.Table == 0 && r.Goto <= r.Priority:
		return "a goto needs a later priority"
	}
	return ""
}
