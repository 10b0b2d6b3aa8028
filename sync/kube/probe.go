package kube

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// A Probe is what one look at an API server finds.
type Probe struct {
	Version    string
	Skew       time.Duration  // its clock less ours; it tells whole seconds only
	ServiceIPs []netip.Addr   // the cluster IPs at which it is a Service
	Ranges     []netip.Prefix // of cluster IPs, if it tells
}

// probeLimit is the time limit of each request of a probe.
const probeLimit = 5 * time.Second

// URL returns the URL of the API server, and reports whether it is from the environment of a pod.
func (c Connection) URL() (url string, inCluster bool, err error) {
	cfg, err := c.Config()
	if err != nil {
		return "", false, err
	}
	return cfg.Host, c.Kubeconfig == "" && c.Master == "" && c.Kubelet == "", nil
}

// Probe asks the API server about itself.
func (c Connection) Probe(ctx context.Context) (Probe, error) {
	cfg, err := c.Config()
	if err != nil {
		return Probe{}, err
	}
	var clock clock
	cfg.Timeout = probeLimit
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return clock.watch(next) })
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return Probe{}, err
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		return Probe{}, err
	}
	p := Probe{Version: version.GitVersion}
	services, err := client.CoreV1().Services(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=kubernetes"})
	if err != nil {
		return p, err
	}
	for _, svc := range services.Items {
		for _, ip := range svc.Spec.ClusterIPs {
			if a, err := netip.ParseAddr(ip); err == nil { // or it is headless
				p.ServiceIPs = append(p.ServiceIPs, a)
			}
		}
	}
	if cidrs, err := client.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{}); err == nil { // servers before 1.33 have none
		for _, c := range cidrs.Items {
			for _, text := range c.Spec.CIDRs {
				if r, err := netip.ParsePrefix(text); err == nil {
					p.Ranges = append(p.Ranges, r)
				}
			}
		}
	}
	p.Skew = clock.skew()
	return p, nil
}

// A clock compares the server's clock with ours, by the Date of its answers.
type clock struct {
	mu   sync.Mutex
	last time.Duration
}

func (c *clock) watch(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		begin := time.Now()
		answer, err := next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		if date, err := http.ParseTime(answer.Header.Get("Date")); err == nil { // or it is a proxy that tells no time
			c.note(date, begin, time.Now())
		}
		return answer, nil
	})
}

// note notes the date of an answer that was under way from begin to end. The date is cut to seconds; a clock within the doubt agrees.
func (c *clock) note(date, begin, end time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case date.After(end):
		c.last = date.Sub(end)
	case date.Add(time.Second).Before(begin):
		c.last = date.Add(time.Second).Sub(begin)
	default:
		c.last = 0
	}
}

func (c *clock) skew() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
