package ipvsmode

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// An object that the kernel goes on to refuse is told to the Service that it belongs to, and no more when it is repaired.
// What goes well when it is tried again is told to nobody.
func TestRefusalsAreTold(t *testing.T) {
	for refused, want := range map[string]string{
		"ipvsadm -A -t 198.18.0.1:80 -s rr":                          "is not served: ",
		"ipset add KIPVS-OWNED 198.18.0.1,tcp:80":                    "is not served: ",
		"ipset add KIPVS-EXTERNAL 198.18.0.1,tcp:80":                 "is not served: ",
		"ip route add local 198.18.0.1/32 dev kube-ipvs0 table 7598": "is not served: ",
		"ipvsadm -a -t 198.18.0.1:80 -r 10.244.0.1:8080 -m -w 1":     "is served, but not as a whole: ",
	} {
		t.Run(refused, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.set(1, pods(1), externalIP("198.18.0.1"))
				r.set(2, pods(1))
				r.let(refusing(refused))
				r.start()
				r.queue.Synced()
				time.Sleep(time.Second)
				synctest.Wait()
				if got := r.reported(); got != nil {
					t.Errorf("told at once: %q", got)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				told := fmt.Sprintf("default/s00001 [Service default/s00001: external IP 198.18.0.1:80 (tcp): %s%s: refused]", want, refused)
				if got := r.reported(); len(got) != 1 || got[0] != told {
					t.Errorf("told %q\nwant %s", got, told)
				}
				r.let(nil)
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := r.reported(); len(got) != 1 || got[0] != "default/s00001 []" {
					t.Errorf("repaired: told %q", got)
				}
			})
		})
	}
}

// Of many objects of one frontend that are refused one is named.
func TestManyRefusalsAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1, 2, 3))
		r.let(func(what string) error {
			if strings.HasPrefix(what, "ipvsadm -a") {
				return errRefused
			}
			return nil
		})
		var told []plan.Problem
		r.report = func(_ plan.Name, p []plan.Problem) { told = p }
		r.start()
		r.queue.Synced()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(told) != 1 || told[0].Reason != "is served, but not as a whole: ipvsadm -a -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 1: refused (and 2 more)" {
			t.Errorf("told %v", told)
		}
	})
}

// The kernel has no real server at the broadcast address of one of the node's networks. A Service with such an endpoint, at however many
// frontends, does not make the node unhealthy: load balancers would leave all nodes of the network. Refusals of many endpoints do.
func TestOneEndpointsRefusalsAreNotTheNodes(t *testing.T) {
	for name, c := range map[string]struct {
		endpoints []plan.Endpoint
		blocks    bool
	}{
		"one, at ten frontends":       {pods(255), false},
		"ten, at ten frontends each":  {pods(200, 201, 202, 203, 204, 205, 206, 207, 208, 209), true},
		"nine, at ten frontends each": {pods(200, 201, 202, 203, 204, 205, 206, 207, 208), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.set(10, pods(1, 2)) // is served, and stays so
				r.start()
				r.queue.Synced()
				if got := r.attempts(); len(got) == 0 || got[len(got)-1] != nil {
					t.Fatalf("the start ends with %v", got)
				}
				r.let(func(what string) error {
					if strings.Contains(what, "-r 10.244.0.2") {
						return errRefused
					}
					return nil
				})
				r.change(1, c.endpoints, func(s *plan.Service) {
					for i := range 9 {
						s.ExternalIPs = append(s.ExternalIPs, netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}))
					}
				})
				time.Sleep(10 * time.Minute)
				got := r.attempts()
				if err := got[len(got)-1]; err == nil || errors.Is(err, loop.ErrObjects) == c.blocks {
					t.Errorf("ends with %v, want the whole layer blamed: %v", err, c.blocks)
				}
			})
		})
	}
}

// One flush of the rules by others is one line in the log, one drift and one attempt.
func TestOneFlushIsOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.set(1, pods(1))
		r.lookInterval = time.Second
		var log lines
		log.on(r)
		r.start()
		r.queue.Synced()
		time.Sleep(time.Minute)
		synctest.Wait()
		attempts := func() uint64 {
			return r.metric("kubeproxy_sync_proxy_rules_duration_seconds").GetHistogram().GetSampleCount()
		}
		log.take()
		before := attempts()
		r.rules.Change(inet.IPv4)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := attempts() - before; n != 1 || r.drift() != 1 || r.rules.Ensured() != 2 {
			t.Errorf("%d attempts, %v drifts, rules made %d times; want 1, 1, 2", n, r.drift(), r.rules.Ensured())
		}
		if got := log.take(); len(got) != 1 || !strings.Contains(got[0], "they are repaired") || !strings.Contains(got[0], "rules") {
			t.Errorf("logged %q, want one line", got)
		}
	})
}
