//go:build kernel

package packet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/lab"
)

// A healthAnswer is what a health-check node port answers.
type healthAnswer struct {
	Code    int
	Type    string
	NoSniff string
	Weight  string
	Service struct{ Namespace, Name string }
	Local   int  `json:"localEndpoints"`
	Healthy bool `json:"serviceProxyHealthy"`
}

// getHealth asks a health-check node port from a host.
func (w *world) getHealth(from *lab.Host, at netip.AddrPort, path string) (a healthAnswer, err error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, address string) (c net.Conn, err error) {
			err = from.Do(func() (err error) {
				c, err = net.DialTimeout(network, address, time.Second)
				return err
			})
			return c, err
		},
	}}
	resp, err := client.Get(fmt.Sprintf("http://%v%s", at, path))
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	err = json.Unmarshal(body, &a)
	h := resp.Header
	a.Code, a.Type, a.NoSniff, a.Weight = resp.StatusCode, h.Get("Content-Type"), h.Get("X-Content-Type-Options"), h.Get("X-Load-Balancing-Endpoint-Weight")
	return a, err
}

// A health-check node port answers a load balancer with kube-proxy's code, headers and body, in both families, whatever
// the path; it follows the endpoints, the proxy's own health, and its number.
func TestHealthCheckNodePorts(t *testing.T) {
	w := newWorld(t, lab.Config{})
	const limit = 300 * time.Millisecond
	p := start(t, setup{detector: clusterCIDR, healthLimit: limit})
	svc := service(1, inet.TCP)
	svc.ExternalLocal, svc.HealthCheckNodePort = true, 31999
	set := func(endpoints ...endpoint) func() {
		return func() {
			p.set(svc, w.slices(svc.Name, inet.TCP, endpoints)...)
			p.settle()
		}
	}
	pending := func() {
		p.vitals.Queued()
		time.Sleep(limit)
	}
	// A pod has an address of each family, and counts once.
	for _, tt := range []struct {
		name    string
		change  func()
		code    int
		local   int
		healthy bool
	}{
		{"one ready here", set(ready("pod1", true), ready("far1", false)), 200, 1, true},
		{"two ready here", set(ready("pod1", true), ready("pod2", true)), 200, 2, true},
		{"one goes", set(going("pod1", true), ready("pod2", true)), 200, 1, true},
		{"ready elsewhere only", set(ready("far1", false)), 503, 0, true},
		{"the last ones here go and still serve", set(going("pod1", true), ready("far1", false)), 503, 0, true},
		{"none", set(), 503, 0, true},
		{"back", set(ready("pod1", true)), 200, 1, true},
		{"the proxy does not keep up", pending, 503, 1, false},
		{"it does again", p.settle, 200, 1, true},
		{"another number", func() { svc.HealthCheckNodePort = 31998; set(ready("pod2", true))() }, 200, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.change()
			want := healthAnswer{Code: tt.code, Type: "application/json", NoSniff: "nosniff", Weight: fmt.Sprint(tt.local), Local: tt.local, Healthy: tt.healthy}
			want.Service.Namespace, want.Service.Name = svc.Name.Namespace, svc.Name.Name
			for _, v6 := range []bool{false, true} {
				for i, from := range []*lab.Host{w.Client, w.Pod("asker"), w.Node, w.Node2} {
					got, err := w.getHealth(from, netip.AddrPortFrom(w.Node.Addr(v6), svc.HealthCheckNodePort), []string{"/", "/healthz", "/x?y=z", "/"}[i])
					if diff := cmp.Diff(want, got); err != nil || diff != "" {
						t.Errorf("from %v: %v (-want +got):\n%s", from, err, diff)
					}
				}
			}
		})
	}
	old := netip.AddrPortFrom(w.Node.Addr(false), 31999)
	if a, err := w.getHealth(w.Client, old, "/"); err == nil {
		t.Errorf("the old number still answers: %+v", a)
	}
	p.remove(svc.Name)
	p.settle()
	if a, err := w.getHealth(w.Client, netip.AddrPortFrom(w.Node.Addr(false), 31998), "/"); err == nil {
		t.Errorf("the port of a Service that is gone answers: %+v", a)
	}
}
