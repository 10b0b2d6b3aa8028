package health

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kube-ipvs/sync/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// freePort returns a TCP port that nobody listens on.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// Where a port is asked, it listens on the addresses that were given last: all, some, or none.
func TestNodePortsListenWhereTold(t *testing.T) {
	one, two := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	n := NewNodePorts(NewState(time.Minute), nil, func(name plan.Name, err error) { t.Errorf("%v: %v", name, err) })
	t.Cleanup(n.closeAll)
	port := freePort(t)
	n.Set(plan.Name{Namespace: "default", Name: "web"}, &plan.Health{Port: port, LocalEndpoints: 1})
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	listening := []netip.Addr{one, two}
	for _, tt := range []struct{ addrs, want []netip.Addr }{
		{nil, listening}, {[]netip.Addr{one}, listening[:1]}, {[]netip.Addr{two}, listening[1:]}, {[]netip.Addr{}, nil}, {listening, listening}, {nil, listening},
	} {
		n.Listen(tt.addrs)
		var got []netip.Addr
		for _, a := range listening {
			if resp, err := client.Get(fmt.Sprintf("http://%v/", netip.AddrPortFrom(a, port))); err == nil {
				resp.Body.Close()
				got = append(got, a)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("told %v: listens on %v, want %v", tt.addrs, got, tt.want)
		}
	}
}
