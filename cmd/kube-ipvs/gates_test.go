package main

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/go-logr/logr"

	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source"
)

// oneService is a source with a Service with an external IP.
type oneService struct{ source.Source }

func (oneService) Service(plan.Name) (plan.Service, []plan.Slice, bool) {
	return plan.Service{ExternalIPs: []netip.Addr{netip.MustParseAddr("198.18.0.10")}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")}}, nil, true
}

func TestNoExternalIPs(t *testing.T) {
	svc, _, ok := noExternalIPs{oneService{}}.Service(plan.Name{})
	if !ok || len(svc.ExternalIPs) > 0 || len(svc.ClusterIPs) != 1 {
		t.Errorf("%+v, %t", svc, ok)
	}
	for _, off := range []bool{false, true} {
		cfg := configured(t, "--manifests="+t.TempDir(), fmt.Sprintf("--feature-gates=AllowServiceExternalIPs=%t", !off))
		p := &proxy{config: cfg, queue: loop.NewQueue()}
		if err := p.newSource(logr.Discard()); err != nil {
			t.Fatal(err)
		}
		if _, is := p.source.(noExternalIPs); is != off {
			t.Errorf("%T, with the gate off: %t", p.source, off)
		}
	}
}
