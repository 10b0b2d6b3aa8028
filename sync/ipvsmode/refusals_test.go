package ipvsmode

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kube-ipvs/internal/inet"
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
