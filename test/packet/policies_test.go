//go:build kernel && neighbours

package packet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/lab"
	"kube-ipvs/test/neighbours"
)

// closed are Calico's policies that let nobody talk to pod2, and pod2 to nobody.
const closed = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: %s}
spec: {selector: pod == 'pod2', types: [%s]}
`

// policies asks whether Calico's policies hold for what comes through Services: a pod that nobody may talk to is behind some,
// and one that may talk to nobody asks others.
func (h *neighbourhood) policies(t *testing.T) {
	felix := h.n.(*neighbours.Felix)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	to, from := map[question]string{}, map[question]string{}
	sources := map[source]bool{fromPod: true, fromFarPod: true, fromOutside: true}
	for i, proto := range []inet.Protocol{inet.TCP, inet.UDP} {
		for policy := range 2 {
			behind, asked := service(60+2*i+policy, proto), service(70+2*i+policy, proto)
			behind.ExternalLocal, asked.ExternalLocal = policy == 1, policy == 1
			h.p.set(behind, h.slices(behind.Name, proto, []endpoint{ready("pod2", true)})...)
			h.p.set(asked, h.slices(asked.Name, proto, []endpoint{ready("pod1", true), ready("far1", false)})...)
			for _, v6 := range []bool{false, true} {
				for _, frontend := range frontends {
					for source := range sources {
						to[question{source, proto, h.address(behind, frontend, v6)}] = ""
					}
					from[question{fromClosed, proto, h.address(asked, frontend, v6)}] = ""
				}
			}
		}
	}
	h.p.settle()
	for _, step := range []struct {
		name     string
		do       func(context.Context, string) error
		policy   string
		to, from string
	}{
		{"no policy", nil, "", "answered", "answered"},
		{"nobody may talk to it", felix.Apply, fmt.Sprintf(closed, "in", "Ingress"), "silence", "answered"},
		{"not any more", felix.Delete, fmt.Sprintf(closed, "in", "Ingress"), "answered", "answered"},
		{"it may talk to nobody", felix.Apply, fmt.Sprintf(closed, "out", "Egress"), "answered", "silence"},
		{"it may again", felix.Delete, fmt.Sprintf(closed, "out", "Egress"), "answered", "answered"},
	} {
		t.Run(step.name, func(t *testing.T) {
			if step.do != nil {
				if err := errors.Join(felix.Works(ctx), step.do(ctx, step.policy)); err != nil {
					t.Fatal(err)
				}
				// Nobody says when Felix has done it, but that pods ask each other without a Service.
				within(t, 20*time.Second, "policy holds without a Service", func() bool {
					return h.directly("asker", "pod2") == step.to && h.directly("pod2", "pod1") == step.from
				})
			}
			n := h.expect(t, all(to, step.to)) + h.expect(t, all(from, step.from))
			t.Logf("%d questions", n)
		})
	}
}

// directly is the fate of questions from pod to pod, if it is the same for both families, which Felix programs one after the other.
func (h *neighbourhood) directly(from, to string) string {
	var fates [2]string
	for i, v6 := range []bool{false, true} {
		at := netip.AddrPortFrom(h.Pod(to).Addr(v6), podPort)
		fates[i] = fate(h.Ask(context.Background(), h.Pod(from), inet.TCP, at, lab.Wait(time.Second)))
	}
	if fates[0] != fates[1] {
		return ""
	}
	return fates[0]
}

// all expects one fate of all questions.
func all(questions map[question]string, fate string) map[question]string {
	out := map[question]string{}
	for q := range questions {
		out[q] = fate
	}
	return out
}
