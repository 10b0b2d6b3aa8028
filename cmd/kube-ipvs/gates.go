package main

import (
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source"
)

// noExternalIPs is a source whose Services have no external IPs: the feature gate AllowServiceExternalIPs is off.
type noExternalIPs struct{ source.Source }

// Service implements source.Services.
func (s noExternalIPs) Service(name plan.Name) (plan.Service, []plan.Slice, bool) {
	svc, slices, ok := s.Source.Service(name)
	svc.ExternalIPs = nil
	return svc, slices, ok
}
