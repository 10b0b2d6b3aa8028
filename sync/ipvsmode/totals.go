package ipvsmode

import "kube-ipvs/sync/loop"

// Totals implements loop.Totaler.
func (d *Dataplane) Totals() loop.Totals {
	t := loop.Totals{
		RealServers: d.realLayer.Known(), Draining: d.tables.draining.count, Refused: d.layers.Failing(),
	}
	for _, c := range d.changes {
		t.Repaired += c.Repaired
	}
	for f := range d.tables.families {
		frontends := d.tables.members[d.tables.families[f].Frontends.Name]
		t.Frontends += frontends.WantedLen()
		t.Programmed += frontends.KnownLen()
	}
	for _, l := range d.layers {
		t.Pending += l.Pending()
	}
	return t
}
