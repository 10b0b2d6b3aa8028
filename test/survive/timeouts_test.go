//go:build kernel

package survive

import (
	"strings"
	"testing"
)

// TestTimeouts asks IPVS how long it keeps idle connections: for a day, unless the flags say otherwise.
func TestTimeouts(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct{ args, want string }{
		{"", "86400 120 300"}, // two of them as the kernel has them
		{"--ipvs-tcp-timeout=2h --ipvs-tcpfin-timeout=1m --ipvs-udp-timeout=10s", "7200 60 10"},
		{"--default-ipvs-tcp-timeout=0s", "7200 60 10"}, // as the kernel has it
		{"--ipvs-tcp-timeout=0s", "86400 60 10"},        // as kubeadm writes it for kube-proxy's default
	} {
		args := w.Args
		w.Args = append(w.Args, strings.Fields(tt.args)...)
		w.start()
		w.settle()
		got := w.shell("ipvsadm -L --timeout")
		if !strings.HasSuffix(strings.TrimSpace(got), tt.want) {
			t.Errorf("with %q IPVS says %q, want %s", tt.args, got, tt.want)
		}
		w.terminate()
		w.Args = args
	}
}
