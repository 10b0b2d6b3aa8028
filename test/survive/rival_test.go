//go:build kernel

package survive

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"kube-ipvs/test/child"
)

// kubeProxyRules are what kube-proxy would write.
const kubeProxyRules = `printf '*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n' | iptables-restore --noflush`

// TestKubeProxyRuns starts the program beside a kube-proxy: it changes nothing until that has ended. Once its rules come the
// program leaves them alone and goes on to serve, but a roll-out must stop: the node is ready for nobody who counts on one proxy.
func TestKubeProxyRuns(t *testing.T) {
	w := newWorld(t)
	rival := answersAsKubeProxy(t)
	settings := "ipvsadm -L --timeout; sysctl -a 2>/dev/null | grep nf_conntrack_tcp_timeout"
	before, kernel := w.shell(settings), w.kernel()
	w.Args = append(w.Args, "--conntrack-tcp-timeout-established=5h")
	w.start()
	w.awaits("it waits", 30*time.Second, func() bool { return w.said("kube-proxy runs on this node in mode ipvs") > 0 })
	if after := w.shell(settings) + w.kernel(); after != before+kernel {
		t.Errorf("settings and tables before:\n%s%s\nwhile it waits:\n%s", before, kernel, after)
	}
	check(t, rival.Close())
	w.settle()
	if after := w.shell(settings); !strings.Contains(after, "86400") || !strings.Contains(after, "nf_conntrack_tcp_timeout_established = 18000") {
		t.Errorf("once it does not wait:\n%s", after)
	}
	if !w.answers("/readyz") {
		t.Error("it is not ready once it serves")
	}
	w.shell(kubeProxyRules)
	w.awaits("it is not ready", 2*time.Minute, func() bool { return !w.answers("/readyz") })
	if !w.answers("/healthz") || !w.answers("/livez") {
		t.Error("it is not healthy, though it serves")
	}
	// Who removes the rules beneath a kube-proxy that runs serves less than both; this fails if they are gone.
	w.shell("iptables -t nat -D PREROUTING -j KUBE-SERVICES; iptables -t nat -X KUBE-SERVICES")
}

// answersAsKubeProxy answers where kube-proxy would.
func answersAsKubeProxy(t *testing.T) *http.Server {
	t.Helper()
	at, err := net.Listen("tcp", child.Metrics)
	check(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ipvs")) })
	server := &http.Server{Handler: mux}
	go server.Serve(at)
	t.Cleanup(func() { server.Close() })
	return server
}
