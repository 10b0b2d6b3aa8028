//go:build kernel && compare

package takeover

import (
	"testing"
	"time"

	"kube-ipvs/test/kubeproxy"
)

// A handOver is a way from one proxy to the other, while clients talk.
type handOver struct {
	name string
	from func(*world) // before clients talk
	to   func(*world)
}

var forward = []handOver{
	{"kube-proxy ends first", nil, func(w *world) {
		w.stopKubeProxy()
		time.Sleep(time.Second)
		w.startOurs()
		w.healthy()
		w.takenOver()
	}},
	{"both run for a while", nil, func(w *world) {
		w.startOurs()
		time.Sleep(8 * time.Second)
		w.stopKubeProxy()
		w.healthy()
		w.takenOver()
	}},
}

// TestForward takes the node over from each mode of kube-proxy.
func TestForward(t *testing.T) {
	for _, mode := range []string{kubeproxy.IPTables, kubeproxy.IPVS} {
		for _, h := range forward {
			t.Run(mode+"/"+h.name, func(t *testing.T) {
				w := newWorld(t)
				w.startKubeProxy(mode)
				s := w.talk()
				time.Sleep(time.Second)
				h.to(w)
				time.Sleep(3 * time.Second)
				text, sum := report(s.end())
				t.Logf("\n%s", text)
				if sum.broken+sum.failed > 0 {
					t.Errorf("%d connections broken, %d new ones failed", sum.broken, sum.failed)
					t.Log(w.ours.LastWords())
				}
			})
		}
	}
}
