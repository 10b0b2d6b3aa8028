package ipvs

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// String returns the table as text in the order of its keys, with a line for each virtual and each real server:
//
//	tcp 10.96.0.10:80 rr persistent 10800
//	  -> 10.244.1.2:8080 w1
//	mark 5 ipv6 mh flag-1
//	  -> [fd00::2]:8080 w0 active 3 inactive 1
//
// Connections are left out if there are none.
func (t Table) String() string {
	var b bytes.Buffer
	for _, key := range slices.SortedFunc(maps.Keys(t), Key.Compare) {
		entry := t[key]
		fmt.Fprintf(&b, "%s %s\n", key.text(), entry.Server.text())
		for _, at := range slices.SortedFunc(maps.Keys(entry.Reals), netip.AddrPort.Compare) {
			fmt.Fprintf(&b, "  -> %v %s\n", at, entry.Reals[at].text())
		}
	}
	return b.String()
}

func (k Key) text() string {
	switch {
	case k.Mark != 0 && k.Addr.Is6():
		return fmt.Sprintf("mark %d ipv6", k.Mark)
	case k.Mark != 0:
		return fmt.Sprintf("mark %d", k.Mark)
	}
	return fmt.Sprintf("%v %v", k.Proto, k.AddrPort())
}

func (s Server) text() string {
	text := cmp.Or(s.Scheduler, "none")
	if s.Timeout != 0 {
		text += fmt.Sprintf(" persistent %d", s.Timeout)
	}
	for i, f := range []Flags{Flag1, Flag2, Flag3} {
		if s.Flags&f != 0 {
			text += fmt.Sprintf(" flag-%d", i+1)
		}
	}
	return text
}

func (s RealState) text() string {
	text := fmt.Sprintf("w%d", s.Weight)
	if s.Active != 0 || s.Inactive != 0 {
		text += fmt.Sprintf(" active %d inactive %d", s.Active, s.Inactive)
	}
	return text
}
