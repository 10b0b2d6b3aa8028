package ipset

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
)

// A definition is a set in the kernel without its members.
type definition struct {
	typ     Type
	family  inet.Family
	flags   uint32 // IPSET_FLAG_WITH_*
	maxElem uint32
	timeout bool // members expire
	netmask bool // addresses are truncated
}

// A header has the attributes of one message of a dump. typ is empty in all but a set's first.
type header struct {
	name    string
	typ     Type
	family  inet.Family
	data    netlink.Attrs // rest of the definition
	members netlink.Attrs
}

// parseHeader parses a message of a dump. The result aliases payload.
func parseHeader(payload []byte) (header, error) {
	var h header
	a := netlink.ParseNetfilter(payload)
	for a.Next() {
		switch a.Type() {
		case attrSetName:
			h.name = a.Text()
		case attrTypeName:
			h.typ = Type(a.Text())
		case attrFamily:
			h.family = inet.Family(a.Uint8())
		case attrData:
			h.data = a.Nested()
		case attrADT:
			h.members = a.Nested()
		}
	}
	if err := a.Err(); err != nil {
		return header{}, fmt.Errorf("list: %w", err)
	}
	return h, nil
}

func (h header) definition() (definition, error) {
	d := definition{typ: h.typ, family: h.family}
	for h.data.Next() {
		switch h.data.Type() {
		case attrDataFlags:
			d.flags = h.data.Uint32BE()
		case attrMaxElem:
			d.maxElem = h.data.Uint32BE()
		case attrTimeout:
			d.timeout = true
		case attrNetmask:
			d.netmask = true
		}
	}
	if err := h.data.Err(); err != nil {
		return definition{}, fmt.Errorf("definition of set %s: %w", h.name, err)
	}
	return d, nil
}

// satisfies returns nil if an existing set can be used as s, or os.ErrExist with the differences. More room than needed,
// counters and comments do no harm.
func (d definition) satisfies(s Set) error {
	var errs []error
	differs := func(field string, got, want any) {
		errs = append(errs, fmt.Errorf("it has %s %v, not %v", field, got, want))
	}
	if d.typ != s.Type {
		differs("type", d.typ, s.Type)
	}
	if d.family != s.Family {
		differs("family", d.family, s.Family)
	}
	if s.Marks && d.flags&flagWithSkbInfo == 0 {
		differs("skbinfo", false, true)
	}
	if d.maxElem < MaxElem {
		differs("maxelem", d.maxElem, MaxElem)
	}
	if d.timeout || d.netmask || d.flags&flagForceAdd != 0 {
		errs = append(errs, errors.New("it has a timeout, netmask or forceadd, which change members"))
	}
	if errs == nil {
		return nil
	}
	return fmt.Errorf("set %s: %w: %w", s.Name, os.ErrExist, errors.Join(errs...))
}

// Differ implements Kernel with one dump of the sets' headers.
func (c *Conn) Differ(ctx context.Context, sets []Set) (map[string]error, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	differ := make(map[string]error)
	err := c.list(ctx, "", flagListHeader, func(h header) error {
		i := slices.IndexFunc(sets, func(s Set) bool { return s.Name == h.name })
		if i < 0 || h.typ == "" {
			return nil
		}
		d, err := h.definition()
		if err != nil {
			return err
		}
		if err := d.satisfies(sets[i]); err != nil {
			differ[h.name] = err
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compare definitions of sets: %w", err)
	}
	return differ, nil
}

// Differ implements Kernel.
func (f *Fake) Differ(ctx context.Context, sets []Set) (map[string]error, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	differ := make(map[string]error)
	for _, s := range sets {
		if existing, ok := f.sets[s.Name]; ok {
			if err := existing.definition().satisfies(s); err != nil {
				differ[s.Name] = err
			}
		}
	}
	return differ, ctx.Err()
}
