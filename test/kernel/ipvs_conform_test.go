// Package kernel holds every table in memory and the running kernel to the same behaviour. The situations that need a
// kernel carry the build tag of that name.
package kernel

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
)

var (
	tcp4   = ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.10:80"))
	udp4   = ipvs.AddrKey(inet.UDP, netip.MustParseAddrPort("10.96.0.10:53"))
	sctp6  = ipvs.AddrKey(inet.SCTP, netip.MustParseAddrPort("[fd00::a]:80"))
	tcp6   = ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("[fd00::a]:80"))
	mark4  = ipvs.MarkKey(5, netip.IPv4Unspecified())
	mark6  = ipvs.MarkKey(5, netip.IPv6Unspecified())
	real4a = netip.MustParseAddrPort("10.244.1.2:8080")
	real4b = netip.MustParseAddrPort("10.244.1.3:8080")
	real6a = netip.MustParseAddrPort("[fd00:1::2]:8080")
	rr     = ipvs.Server{Scheduler: "rr"}
)

func add(k ipvs.Key, s ipvs.Server) ipvs.Op { return ipvs.Op{Verb: ipvs.AddServer, Key: k, Server: s} }
func set(k ipvs.Key, s ipvs.Server) ipvs.Op { return ipvs.Op{Verb: ipvs.SetServer, Key: k, Server: s} }
func del(k ipvs.Key) ipvs.Op                { return ipvs.Op{Verb: ipvs.DelServer, Key: k} }

func addReal(k ipvs.Key, at netip.AddrPort, weight uint32) ipvs.Op {
	return ipvs.Op{Verb: ipvs.AddReal, Key: k, Addr: at, Real: ipvs.Real{Weight: weight}}
}

func setReal(k ipvs.Key, at netip.AddrPort, weight uint32) ipvs.Op {
	return ipvs.Op{Verb: ipvs.SetReal, Key: k, Addr: at, Real: ipvs.Real{Weight: weight}}
}

func delReal(k ipvs.Key, at netip.AddrPort) ipvs.Op {
	return ipvs.Op{Verb: ipvs.DelReal, Key: k, Addr: at}
}

// errOther stands for any error that is none of package os.
var errOther = errors.New("another error")

// conformsIPVS runs every situation on a new, empty table.
func conformsIPVS(t *testing.T, open func(*testing.T) ipvs.Kernel) {
	for _, tt := range situations {
		t.Run(tt.name, func(t *testing.T) {
			k := open(t)
			errs := k.Do(t.Context(), tt.ops)
			if len(tt.errs) == 0 && errs != nil {
				t.Errorf("Do: %v, want nil", errors.Join(errs...))
			}
			for i, err := range errs {
				if !isError(err, tt.errs[i]) {
					t.Errorf("op %d (%v): error %v, want %v", i, tt.ops[i], err, tt.errs[i])
				}
			}
			if len(tt.errs) > 0 && len(errs) != len(tt.ops) {
				t.Errorf("%d errors of %d ops", len(errs), len(tt.ops))
			}
			wantTable(t, k, tt.want)
		})
	}
}

// wantTable compares what Read and ReadServer say.
func wantTable(t *testing.T, k ipvs.Kernel, want string) {
	t.Helper()
	got, err := k.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("Read (-want +got):\n%s", diff)
	}
	single := make(ipvs.Table)
	for key := range got {
		if single[key], err = k.ReadServer(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(want, single.String()); diff != "" {
		t.Errorf("ReadServer (-want +got):\n%s", diff)
	}
	wantWalk(t, k, got)
	absent := ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.255.254:9"))
	if _, err := k.ReadServer(t.Context(), absent); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadServer of what is not there: %v, want os.ErrNotExist", err)
	}
}

// wantWalk compares what Walk and Count say with what was read.
func wantWalk(t *testing.T, k ipvs.Kernel, read ipvs.Table) {
	t.Helper()
	walked, want, count := make(ipvs.Table), make(ipvs.Table), 0
	err := k.Walk(t.Context(), func(key ipvs.Key, e ipvs.Entry) {
		e.Server.Timeout = min(e.Server.Timeout, 1) // in what unit is the implementation's
		walked[key] = ipvs.Entry{Server: e.Server, Reals: maps.Clone(e.Reals)}
	})
	if err != nil {
		t.Error(err)
	}
	for key, e := range read {
		if key.Addr.Is4() {
			count++
		}
		e.Server.Flags, e.Server.Timeout = 0, min(e.Server.Timeout, 1)
		if slices.Contains([]inet.Protocol{inet.TCP, inet.UDP, inet.SCTP}, key.Proto) || key.Mark != 0 && len(e.Reals) > 0 {
			want[key] = e
		}
	}
	if diff := cmp.Diff(want.String(), walked.String()); diff != "" {
		t.Errorf("Walk (-read +walked):\n%s", diff)
	}
	if got, err := k.Count(t.Context()); err != nil || got != count {
		t.Errorf("Count: %d, %v; want %d", got, err, count)
	}
}

func isError(err, want error) bool {
	if want == errOther {
		return err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission)
	}
	return errors.Is(err, want) && (err != nil) == (want != nil)
}

func TestFakeIPVS(t *testing.T) {
	conformsIPVS(t, func(*testing.T) ipvs.Kernel { return new(ipvs.Fake) })
}
