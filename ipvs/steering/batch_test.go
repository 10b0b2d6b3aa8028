package steering

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
	"kube-ipvs/internal/netlink/netlinktest"
)

// A sim is the kernel behind a socket, with one link and routes, by table and prefix.
type sim struct {
	routes map[route]bool
	down   bool // the link
	noIPv6 bool
}

func (s *sim) message(m netlinktest.Request) error {
	switch {
	case s.noIPv6 && m.Payload[0] == unix.AF_INET6 && (m.Type == unix.RTM_NEWROUTE || m.Type == unix.RTM_DELROUTE):
		return unix.EOPNOTSUPP
	case m.Type == unix.RTM_GETLINK:
		m.Reply(unix.RTM_NEWLINK, 0, linkMessage(LinkName, "dummy", unix.IFF_UP|unix.IFF_NOARP, addrGenModeNone))
	case m.Type == unix.RTM_GETROUTE:
		for r := range s.routes {
			m.Reply(unix.RTM_NEWROUTE, unix.NLM_F_MULTI, routeMessage(r))
		}
	case m.Type == unix.RTM_NEWROUTE:
		return s.add(m.Payload)
	case m.Type == unix.RTM_DELROUTE:
		return s.del(m.Payload)
	}
	return nil
}

func (s *sim) add(payload []byte) error {
	r, err := parseRoute(payload)
	if err != nil {
		return unix.EINVAL
	}
	if s.down {
		return unix.ENETDOWN
	}
	for there := range s.routes {
		if there.table == r.table && there.prefix == r.prefix {
			return unix.EEXIST
		}
	}
	s.routes[r] = true
	return nil
}

func (s *sim) del(payload []byte) error {
	r, err := parseRoute(payload)
	if err != nil {
		return unix.EINVAL
	}
	for there := range s.routes {
		if there.table == r.table && there.prefix == r.prefix && (r.protocol == 0 || r.protocol == there.protocol) {
			delete(s.routes, there)
			return nil
		}
	}
	return unix.ESRCH
}

// TestRoutesInTheWay adds and removes routes where something else is.
func TestRoutesInTheWay(t *testing.T) {
	node, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	local, last, divert := item(Local, "10.96.0.0/12"), item(LastRoute, "10.96.0.0/12"), item(Divert, "10.96.0.0/12")
	with := func(i Item, change func(*route)) route {
		r := i.route(7, netip.Addr{})
		change(&r)
		return r
	}
	elsewhere := func(r *route) { r.oif = 8 }
	stranger := func(r *route) { r.oif, r.protocol = 8, 3 }
	kernels := func(r *route) { r.oif, r.protocol = 8, unix.RTPROT_KERNEL } // of an address that somebody has
	tests := []struct {
		name  string
		there route
		op    Op
		want  error
		now   []route
	}{
		{"add the same", local.route(7, node), Op{Verb: Add, Item: local, Source: node}, nil, []route{local.route(7, node)}},
		{"add the same without source", local.route(7, netip.Addr{}), Op{Verb: Add, Item: local, Source: netip.Addr{}}, nil, []route{local.route(7, netip.Addr{})}},
		{"add with another source", local.route(7, other), Op{Verb: Add, Item: local, Source: node}, nil, []route{local.route(7, node)}},
		{"add where there is no source", local.route(7, netip.Addr{}), Op{Verb: Add, Item: local, Source: node}, nil, []route{local.route(7, node)}},
		{"add over ours that leads elsewhere", with(local, elsewhere), Op{Verb: Add, Item: local, Source: node}, nil, []route{local.route(7, node)}},
		{"add over a stranger's", with(local, stranger), Op{Verb: Add, Item: local, Source: node}, os.ErrExist, []route{with(local, stranger)}},
		{"add over the kernel's", with(local, kernels), Op{Verb: Add, Item: local, Source: node}, os.ErrExist, []route{with(local, kernels)}},
		{"add over a stranger's in our table", with(last, stranger), Op{Verb: Add, Item: last, Source: netip.Addr{}}, nil, []route{last.route(7, netip.Addr{})}},
		{"add over a stranger's in the table of what is diverted", with(divert, stranger), Op{Verb: Add, Item: divert, Source: netip.Addr{}}, nil, []route{divert.route(7, netip.Addr{})}},
		{"add in another table", with(local, stranger), Op{Verb: Add, Item: last, Source: netip.Addr{}}, nil, []route{with(local, stranger), last.route(7, netip.Addr{})}},
		{"delete", local.route(7, node), Op{Verb: Del, Item: local}, nil, nil},
		{"delete ours that leads elsewhere", with(local, elsewhere), Op{Verb: Del, Item: local}, nil, nil},
		{"delete where a stranger's is", with(local, stranger), Op{Verb: Del, Item: local}, nil, []route{with(local, stranger)}},
		{"delete a stranger's in our table", with(last, stranger), Op{Verb: Del, Item: last}, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &sim{routes: map[route]bool{tt.there: true}}
			c := &Conn{bulk: netlink.New(&netlinktest.Socket{Handle: s.message})}
			// Others around it are not concerned.
			ops := []Op{{Verb: Add, Item: item(Local, "10.1.0.0/16")}, tt.op, {Verb: Del, Item: item(Local, "10.1.0.0/16")}}
			errs := c.Do(t.Context(), ops)
			if err := errors.Join(errs...); !errors.Is(err, tt.want) || err != nil && (errs[0] != nil || errs[2] != nil) {
				t.Errorf("Do = %v, want %v for the second", errs, tt.want)
			}
			want := make(map[route]bool)
			for _, r := range tt.now {
				want[r] = true
			}
			if diff := cmp.Diff(want, s.routes, cmp.AllowUnexported(route{})); diff != "" {
				t.Errorf("routes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryOpHasItsError(t *testing.T) {
	ops := []Op{{Verb: Add, Item: item(Local, "10.1.0.0/16")}, {Verb: Del, Item: item(Local, "10.2.0.0/16")}, {Verb: Add, Item: item(LastRoute, "10.3.0.0/16")}}
	s := &sim{routes: map[route]bool{}, down: true}
	socket := &netlinktest.Socket{Handle: s.message}
	c := &Conn{bulk: netlink.New(socket)}
	errs := c.Do(t.Context(), ops)
	if len(errs) != 3 || !errors.Is(errs[0], unix.ENETDOWN) || errs[1] != nil || !errors.Is(errs[2], unix.ENETDOWN) {
		t.Errorf("with the link down: %v", errs)
	}
	s.down, s.noIPv6 = false, true
	six := item(Local, "fd00:96::/108")
	errs = c.Do(t.Context(), []Op{{Verb: Add, Item: six}, {Verb: Del, Item: six}, ops[0]})
	if len(errs) != 3 || !errors.Is(errs[0], ErrNoIPv6) || errs[1] != nil || errs[2] != nil {
		t.Errorf("without IPv6: %v, want ErrNoIPv6 for the first alone", errs)
	}
	socket.Handle = nil // never answers
	for i, err := range c.Do(t.Context(), ops) {
		if !errors.Is(err, netlink.ErrUnknown) {
			t.Errorf("op %d without an answer: %v", i, err)
		}
	}
}
