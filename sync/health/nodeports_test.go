package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"kube-ipvs/sync/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// freePort returns a TCP port without a listener.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// ready returns the state of a node on which everything was programmed.
func ready() *State {
	s := NewState(time.Minute)
	s.Converged(nil)
	return s
}

// A port answers 200 while the node can serve: there are endpoints, everything was programmed once, and the proxy keeps up.
func TestNodePortOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state, name := NewState(time.Minute), plan.Name{Namespace: "default", Name: "web"}
		n := NewNodePorts(state, []netip.Addr{}, func(plan.Name, error) {})
		endpoints := func(count int) func() {
			return func() { n.Set(name, &plan.Health{Port: 30000, LocalEndpoints: count}) }
		}
		for _, tt := range []struct {
			name string
			then func()
			code int
		}{
			{"nothing is programmed yet", endpoints(1), 503},
			{"the rules are being written", state.Queued, 503},
			{"they cannot be", func() { state.Converged(errors.New("no")) }, 503},
			{"everything is programmed", func() { state.Converged(nil) }, 200},
			{"a change waits", func() { state.Queued(); time.Sleep(59 * time.Second) }, 200},
			{"for too long", func() { time.Sleep(time.Second) }, 503},
			{"it is programmed", func() { state.Converged(nil) }, 200},
			{"no endpoint is here", endpoints(0), 503},
		} {
			tt.then()
			w := httptest.NewRecorder()
			n.handler(name).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			if w.Code != tt.code {
				t.Errorf("%s: %d, want %d", tt.name, w.Code, tt.code)
			}
		}
	})
}

// Ports listen on the addresses that were set last: all, some, or none.
func TestNodePortsSetAddresses(t *testing.T) {
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
		n.SetAddresses(tt.addrs)
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

// A new address that cannot be listened on yet closes the port at no other, and is reported once.
func TestNodePortsOfANewAddress(t *testing.T) {
	one, other := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("2001:db8::77")
	var failures []error
	n := NewNodePorts(ready(), []netip.Addr{one}, func(_ plan.Name, err error) { failures = append(failures, err) })
	t.Cleanup(n.closeAll)
	port := freePort(t)
	n.Set(plan.Name{Namespace: "default", Name: "web"}, &plan.Health{Port: port, LocalEndpoints: 1})
	before, err := net.Dial("tcp", netip.AddrPortFrom(one, port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	for _, then := range []func(){func() { n.SetAddresses([]netip.Addr{one, other}) }, n.retry, func() { n.SetAddresses([]netip.Addr{other, one}) }} {
		then()
		conn, err := net.Dial("tcp", netip.AddrPortFrom(one, port).String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	_, err = before.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	answer, readErr := io.ReadAll(before)
	if err := errors.Join(err, readErr); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200 ") {
		t.Errorf("a connection of before is answered %q, %v", answer, err)
	}
	if len(failures) != 1 || !strings.Contains(failures[0].Error(), "2001:db8::77") {
		t.Errorf("reported %v, want the new address once", failures)
	}
}

// A port in use is reported, opened on the other addresses, retried, and closed with its Service.
func TestNodePortThatIsTaken(t *testing.T) {
	one, two := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	taken, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(taken.Addr().(*net.TCPAddr).Port)
	name := plan.Name{Namespace: "default", Name: "web"}
	failures := 0
	n := NewNodePorts(ready(), []netip.Addr{one, two}, func(of plan.Name, err error) {
		if failures++; of != name || !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%v: %v, want that %v's port is in use", of, err, name)
		}
	})
	t.Cleanup(n.closeAll)
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	codes := func() (out [2]int) {
		for i, a := range []netip.Addr{one, two} {
			if resp, err := client.Get(fmt.Sprintf("http://%v/", netip.AddrPortFrom(a, port))); err == nil {
				resp.Body.Close()
				out[i] = resp.StatusCode
			}
		}
		return out
	}
	go func() { // whoever has the port does not speak HTTP
		for conn, err := taken.Accept(); err == nil; conn, err = taken.Accept() {
			conn.Close()
		}
	}()
	for _, tt := range []struct {
		name     string
		then     func()
		failures int
		codes    [2]int
	}{
		{"it is taken", func() { n.Set(name, &plan.Health{Port: port, LocalEndpoints: 1}) }, 1, [2]int{200, 0}},
		{"its count changes", func() { n.Set(name, &plan.Health{Port: port, LocalEndpoints: 2}) }, 1, [2]int{200, 0}},
		{"it is taken still, for the same reason", n.retry, 1, [2]int{200, 0}},
		{"it is free", func() { taken.Close(); n.retry() }, 1, [2]int{200, 200}},
		{"no endpoint is here any more", func() { n.Set(name, &plan.Health{Port: port}) }, 1, [2]int{503, 503}},
		{"nothing is wrong any more", n.retry, 1, [2]int{503, 503}},
		{"the Service is gone", func() { n.Set(name, nil) }, 1, [2]int{}},
	} {
		tt.then()
		if got := codes(); got != tt.codes || failures != tt.failures {
			t.Errorf("%s: answers %d after %d failures, want %d and %d", tt.name, got, failures, tt.codes, tt.failures)
		}
	}
}

// A port that goes from one Service to another at once is never closed for longer, whichever is set first, and no
// error is reported. If both want it, one error is reported.
func TestNodePortMoves(t *testing.T) {
	a, b := plan.Name{Namespace: "default", Name: "a"}, plan.Name{Namespace: "default", Name: "b"}
	port, other := freePort(t), freePort(t)
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, tt := range []struct {
		name   string
		then   func(n *NodePorts)
		served plan.Name
		failed int
	}{
		{"it leaves first", func(n *NodePorts) { n.Set(b, nil); n.Set(a, &plan.Health{Port: port, LocalEndpoints: 1}) }, a, 0},
		{"it comes first", func(n *NodePorts) { n.Set(a, &plan.Health{Port: port, LocalEndpoints: 1}); n.Set(b, nil) }, a, 0},
		{"the one that had it gets another", func(n *NodePorts) {
			n.Set(a, &plan.Health{Port: port, LocalEndpoints: 1})
			n.Set(b, &plan.Health{Port: other, LocalEndpoints: 1})
		}, a, 0},
		{"the one that waits goes", func(n *NodePorts) { n.Set(a, &plan.Health{Port: port, LocalEndpoints: 1}); n.Set(a, nil) }, b, 0},
		{"both want it", func(n *NodePorts) { n.Set(a, &plan.Health{Port: port, LocalEndpoints: 1}); n.retry(); n.retry() }, b, 1},
		{"both want it, and elsewhere", func(n *NodePorts) {
			n.Set(a, &plan.Health{Port: port, LocalEndpoints: 1})
			n.SetAddresses([]netip.Addr{netip.MustParseAddr("127.0.0.1")})
		}, b, 0},
	} {
		failed := 0
		n := NewNodePorts(NewState(time.Minute), nil, func(plan.Name, error) { failed++ })
		n.Set(b, &plan.Health{Port: port, LocalEndpoints: 1})
		tt.then(n)
		var body struct{ Service struct{ Name string } }
		resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err == nil {
			err = errors.Join(json.NewDecoder(resp.Body).Decode(&body), resp.Body.Close())
		}
		if err != nil || body.Service.Name != tt.served.Name || failed != tt.failed {
			t.Errorf("%s: %q answers (%v) after %d failures, want %q and %d", tt.name, body.Service.Name, err, failed, tt.served.Name, tt.failed)
		}
		n.closeAll()
	}
}
