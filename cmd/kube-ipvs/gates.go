package main

import "kube-ipvs/sync/plan"

// noExternalIPs is a source whose Services have no external IPs: the feature gate AllowServiceExternalIPs is off.
type noExternalIPs struct{ source }

// Service implements loop.Source.
func (s noExternalIPs) Service(name plan.Name) (plan.Service, []plan.Slice, bool) {
	svc, slices, ok := s.source.Service(name)
	svc.ExternalIPs = nil
	return svc, slices, ok
}
