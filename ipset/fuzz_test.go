package ipset

import (
	"net/netip"
	"testing"

	"kube-ipvs/internal/netlink"
)

// FuzzList parses any bytes as a message of a dump. What comes out must be something that a set can hold.
func FuzzList(f *testing.F) {
	long := netip.MustParsePrefix("2001:db8::/32")
	for _, s := range []*fakeSet{
		{Set: marked, members: map[Member]Mark{member(1): {Value: 1, Mask: 2}, member(2): {}}},
		{Set: networks, members: map[Member]Mark{{Other: long}: {}}},
		{Set: plain, members: map[Member]Mark{{Addr: long.Addr(), Proto: 17, Port: 53, Other: long}: {}}},
	} {
		for _, payload := range s.dump(1, true) {
			f.Add(payload)
		}
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := parseHeader(p)
		if err != nil {
			return
		}
		if d, err := h.definition(); err == nil {
			_ = d.satisfies(marked)
		}
		members := make(map[Member]Mark)
		if h.into(members, marked.Type) != nil {
			return
		}
		for m := range members {
			alone := !m.Addr.IsValid() && m.Other.IsValid() // a network
			if !m.Addr.IsValid() && !alone || m.Other != (netip.Prefix{}) && !m.Other.IsValid() {
				t.Errorf("member %+v", m)
			}
		}
		_ = Save(marked, members)
	})
}

// FuzzAnswer parses any bytes as the answer to a question for versions, and as a refused request.
func FuzzAnswer(f *testing.F) {
	f.Add(append([]byte{2, 0, 0, 0}, append(attr(attrRevision, 7), attr(attrVersionMin, 0)...)...))
	f.Add(append([]byte{2, 0, 0, 0}, attr(attrLine, 1, 0, 0, 0)...))
	f.Fuzz(func(t *testing.T, p []byte) {
		if _, err := parseVersions(p, attrRevision); err == nil && len(p) < 4 {
			t.Error("versions out of nothing")
		}
		if line := failedLine(&netlink.Error{Errno: 1, Request: p}); line < -1 {
			t.Errorf("line %d", line)
		}
	})
}
