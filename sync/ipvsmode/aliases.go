package ipvsmode

import "kube-ipvs/ipvs"

// isFree reports whether an unused alias may pass to another frontend: it is not served, and no packets of its owner are on their way
// there. That is read from the kernel: whoever removed the virtual server, and whatever was answered.
func (d *Dataplane) isFree(key ipvs.Key) bool { return d.serverLayer.Absent(key) && d.isOff(key) }

// canPassOn reports whether a frontend waits for an alias that is free.
func (d *Dataplane) canPassOn() bool {
	for key, a := range d.tables.unused {
		if len(a.waiting) > 0 && d.isFree(key) {
			return true
		}
	}
	return false
}

// passOn gives each free alias to a frontend that waits for it, and forgets it if none does.
func (d *Dataplane) passOn() {
	for key, a := range d.tables.unused {
		switch {
		case !d.isFree(key):
		case len(a.waiting) == 0:
			delete(d.tables.aliases, key)
			delete(d.tables.unused, key)
		default:
			for _, fe := range a.waiting { // all are told whose it is now
				d.changed[KeyOf(fe.Address)] = struct{}{}
			}
			fe := a.waiting[0]
			again := *fe
			a.of = KeyOf(fe.Address)
			d.Update(fe, &again)
		}
	}
}
