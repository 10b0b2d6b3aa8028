package conntrack

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"

	"kube-ipvs/internal/inet"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const udp = unix.IPPROTO_UDP

func flow(proto inet.Protocol, client, frontend, endpoint string) Flow {
	at := netip.MustParseAddrPort
	return Flow{Proto: proto, Client: at(client), Frontend: at(frontend), Endpoint: at(endpoint)}
}

func frontend(proto inet.Protocol, at string, keep ...string) Frontend {
	f := Frontend{Proto: proto, At: netip.MustParseAddrPort(at), Keep: make(map[netip.AddrPort]struct{})}
	for _, k := range keep {
		f.Keep[netip.MustParseAddrPort(k)] = struct{}{}
	}
	return f
}

var (
	stays   = flow(udp, "10.0.0.1:4000", "10.96.0.10:53", "10.244.0.2:53")
	strays  = flow(udp, "10.0.0.1:4001", "10.96.0.10:53", "10.244.0.3:53")
	strays6 = flow(udp, "[fd02::1]:4000", "[fd00::a]:53", "[fd01::3]:53")
	other   = flow(udp, "10.0.0.1:4001", "10.96.0.11:53", "10.244.0.3:53")
	dns     = frontend(udp, "10.96.0.10:53", "10.244.0.2:53")
	dns6    = frontend(udp, "[fd00::a]:53")
)

func wantFlows(t *testing.T, got []Flow, want ...Flow) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
}

func TestDelete(t *testing.T) {
	for name, s := range map[string]*sim{
		"a kernel that does not know the filter": {},
		"a kernel that refuses the filter":       {noFilter: true},
		"flows in a zone":                        {zone: 7},
	} {
		t.Run(name, func(t *testing.T) {
			s.flows = []Flow{stays, strays, strays6, other}
			c := s.conn()
			n, err := c.Delete(t.Context(), []Frontend{dns, dns6})
			if n != 2 || err != nil {
				t.Errorf("Delete: %d, %v; want 2, nil", n, err)
			}
			wantFlows(t, s.flows, stays, other)
			if got := c.Stats(); got.Deleted != 2 || got.Seen != 4 {
				t.Errorf("Stats() = %+v, want 4 seen and 2 deleted", got)
			}
		})
	}
}

// A flow that ends between the dump and its deletion is no error and not counted.
func TestDeleteWhatIsGone(t *testing.T) {
	s := &sim{flows: []Flow{strays, strays6}}
	s.afterDump = func() { s.flows = []Flow{strays6} }
	c := s.conn()
	if n, err := c.Delete(t.Context(), []Frontend{dns}); n != 0 || err != nil {
		t.Errorf("Delete: %d, %v; want 0, nil", n, err)
	}
	wantFlows(t, s.flows, strays6)
}

func TestDeleteErrors(t *testing.T) {
	s := &sim{flows: []Flow{strays}, deleteErrno: unix.EPERM}
	c := s.conn()
	if n, err := c.Delete(t.Context(), []Frontend{dns}); n != 0 || !errors.Is(err, os.ErrPermission) {
		t.Errorf("refused: %d, %v; want 0, os.ErrPermission", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, k := range map[string]Kernel{"Conn": c, "Fake": new(Fake)} {
		if _, err := k.Delete(ctx, []Frontend{dns}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a done context: %v, want context.Canceled", name, err)
		}
	}
	if n, err := c.Delete(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("no frontends: %d, %v; want 0, nil", n, err)
	}
}

func TestFakeDelete(t *testing.T) {
	var f Fake
	f.Add(stays, strays, strays6, other)
	if n, err := f.Delete(t.Context(), []Frontend{dns, dns6}); n != 2 || err != nil {
		t.Errorf("Delete: %d, %v; want 2, nil", n, err)
	}
	wantFlows(t, f.Flows(), stays, other)
	if got := f.Calls(); len(got) != 1 || len(got[0]) != 2 {
		t.Errorf("Calls() = %v, want one of two frontends", got)
	}
}
