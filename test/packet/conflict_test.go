//go:build kernel

package packet

import (
	"strings"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/lab"
)

// Of two Services with one external IP and port the older is served, and the users of the younger are told. When the
// older goes the younger takes over.
func TestConflict(t *testing.T) {
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR})
	older, younger := service(1, inet.TCP), service(2, inet.TCP)
	older.Created, younger.Created = time.Unix(1000, 0), time.Unix(2000, 0)
	younger.ExternalIPs = older.ExternalIPs
	p.set(younger, w.slices(younger.Name, inet.TCP, []endpoint{ready("pod2", true)})...)
	p.settle()
	answers := func(pod string) func() bool {
		return func() bool {
			for _, v6 := range []bool{false, true} {
				for _, from := range sources {
					if a := w.ask(question{from, inet.TCP, w.address(older, toExternalIP, v6)}, time.Second); a.Who != pod {
						return false
					}
				}
			}
			return true
		}
	}
	within(t, time.Second, "alone the younger is served", answers("pod2"))
	p.set(older, w.slices(older.Name, inet.TCP, []endpoint{ready("pod1", true)})...)
	t.Logf("the older is served after %v", within(t, time.Second, "the older is served", answers("pod1")))
	for _, a := range younger.ExternalIPs {
		told := false
		for _, problem := range p.reported(younger.Name) {
			told = told || strings.Contains(problem.Field, a.String()) && strings.Contains(problem.Reason, older.Name.String())
		}
		if !told {
			t.Errorf("of %v nobody was told: %v", a, p.reported(younger.Name))
		}
	}
	if problems := p.reported(older.Name); len(problems) > 0 {
		t.Errorf("problems of the older: %v", problems)
	}
	p.remove(older.Name)
	t.Logf("the younger takes over after %v", within(t, time.Second, "the younger takes over", answers("pod2")))
	if problems := p.reported(younger.Name); len(problems) > 0 {
		t.Errorf("problems that are over: %v", problems)
	}
}
