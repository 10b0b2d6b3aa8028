package manifest

import (
	"bytes"
	"encoding/json"
	"testing"

	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source"
	"kube-ipvs/sync/source/sourcetest"
)

var _ source.Source = (*Source)(nil)

// TestConformance has a file for each Service and its slices.
func TestConformance(t *testing.T) {
	sourcetest.Test(t, func(t *testing.T, content []sourcetest.Object, h source.Handler) sourcetest.Subject {
		d := newDir(t)
		put := func(o sourcetest.Object) {
			var file bytes.Buffer
			e := json.NewEncoder(&file)
			d.done(e.Encode(o.Service))
			for _, es := range o.Slices {
				d.done(e.Encode(es))
			}
			d.write(o.Service.Name+".json", file.String())
		}
		for _, o := range content {
			put(o)
		}
		return sourcetest.Subject{
			Source: runFor(t, d.path, h, nil),
			Put:    put,
			Remove: func(name plan.Name) { d.remove(name.Name + ".json") },
		}
	})
}
