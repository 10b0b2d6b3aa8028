package ipvsmode

import "kube-ipvs/sync/loop"

// Totals implements loop.Totaler.
func (d *Dataplane) Totals() loop.Totals {
	t := loop.Totals{
		Frontends: len(d.frontends), RealServers: d.realLayer.Known(), Draining: d.tables.draining.count, Refused: d.layers.Failing(),
	}
	for _, c := range d.changes {
		t.Repaired += c.Repaired
	}
	for f := range d.tables.families {
		t.Programmed += d.members[d.tables.families[f].Frontends.Name].Known()
	}
	for _, l := range d.layers {
		t.Pending += l.Pending()
	}
	return t
}
