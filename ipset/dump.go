package ipset

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"kube-ipvs/internal/inet"
)

// String returns the definition in the syntax of ipset(8), such as "create KIPVS-X hash:ip,port family inet skbinfo".
func (s Set) String() string {
	family := "inet"
	if s.Family == inet.IPv6 {
		family = "inet6"
	}
	out := fmt.Sprintf("create %s %s family %s maxelem %d", s.Name, s.Type, family, MaxElem)
	if s.Marks {
		out += " skbinfo"
	}
	return out
}

// Save returns a set and its members in the format of "ipset save", a line each, the members in the order of Compare. The
// Fake prints with it, and tests of kernels compare with it.
func Save(s Set, members map[Member]Mark) string {
	var b strings.Builder
	fmt.Fprintln(&b, s)
	for _, m := range slices.SortedFunc(maps.Keys(members), Member.Compare) {
		fmt.Fprintf(&b, "add %s %v%s\n", s.Name, m, members[m].save())
	}
	return b.String()
}

// save returns the mark as "ipset save" appends it to a member: nothing for the zero Mark, and without a mask of all
// ones.
func (m Mark) save() string {
	switch m.Mask {
	case 0:
		if m.Value == 0 {
			return ""
		}
	case 0xffffffff:
		return fmt.Sprintf(" skbmark 0x%x", m.Value)
	}
	return " skbmark " + m.String()
}
