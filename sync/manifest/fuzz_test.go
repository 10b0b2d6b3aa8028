package manifest

import (
	"testing"

	"kube-ipvs/sync/plan"
)

// FuzzManifest checks decoding for arbitrary files: it ends, every mistake has a place, and every object is complete.
func FuzzManifest(f *testing.F) {
	f.Fuzz(func(t *testing.T, content []byte, asJSON bool) {
		name := map[bool]string{false: "a.yaml", true: "a.json"}[asJSON]
		d := newDirectory(t.Name())
		d.files[name], d.order = d.decoder.parse(name, content), []string{name}
		now := assemble(&d, "n1")
		for _, p := range now.problems {
			if p.Object == "" || p.Field == "" || p.Reason == "" {
				t.Errorf("problem %+v", p)
			}
		}
		for name, svc := range now.services {
			if name != svc.Name || name.Name == "" || name.Namespace == "" {
				t.Errorf("service %v: %+v", name, svc)
			}
		}
		for name, list := range now.slices {
			for _, slice := range list {
				if slice.Service != name || name == (plan.Name{}) {
					t.Errorf("slice of %v: %+v", name, slice)
				}
			}
		}
		if again := d.decoder.parse(name, content); len(again.good) != len(d.files[name].good) || again.broken != d.files[name].broken {
			t.Errorf("%+v, then %+v", d.files[name], again)
		}
	})
}
