//go:build kernel

package survive

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/status"
	"kube-ipvs/test/child"
)

// With --ipvs-estimation=off the kernel's counters stand still while clients talk, and whoever shows them tells so; connections are counted.
// The setting is kept. With --ipvs-estimation=on all is counted, also the traffic of before.
func TestEstimation(t *testing.T) {
	const asked = 4
	w := newWorld(t)
	s := service{n: 1}
	w.folder.put(s, w.endpoints("pod1", "far1")...)
	args := w.Args
	live := func(estimation string) {
		w.terminate()
		w.Args = append(args[:len(args):len(args)], "--ipvs-estimation="+estimation)
		w.start()
		w.settle()
	}
	setting := func() string { return strings.TrimSpace(w.shell("cat /proc/sys/net/ipv4/vs/run_estimation")) }

	live("off")
	for range asked {
		if a := w.Ask(context.Background(), w.Pod("asker"), inet.TCP, s.clusterIP(false)); a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	time.Sleep(5 * time.Second) // two estimations
	if got := setting(); got != "0" {
		t.Errorf("run_estimation is %s", got)
	}
	if got := w.counted(); got != 0 {
		t.Errorf("the kernel tells of %d connections without estimation", got)
	}
	top := w.top()
	if !strings.Contains(top.Uncounted, "net.ipv4.vs.run_estimation is 0") || len(top.Items) != 1 || top.Items[0].PerSecond != nil ||
		top.Items[0].Active+top.Items[0].Inactive != asked {
		t.Fatalf("top without estimation: %+v, want %d connections", top, asked)
	}
	if told := w.shell(w.Path + " top --interval 100ms"); !strings.HasPrefix(told, "New connections, packets and bytes are not counted on this node") {
		t.Errorf("top without estimation prints\n%s", told)
	}
	if got := w.metrics(); !strings.Contains(got, "\nkube_ipvs_traffic_counted 0\n") || strings.Contains(got, "kube_ipvs_service_connections_total{") {
		t.Errorf("metrics without estimation:\n%s", got)
	}

	w.shell("sysctl -qw net/ipv4/vs/run_estimation=1")
	w.awaits("run_estimation is 0 again", 10*time.Second, func() bool { return setting() == "0" })

	live("on")
	w.awaits("all connections are counted", 10*time.Second, func() bool {
		series := fmt.Sprintf("\nkube_ipvs_service_connections_total{service_name=%q,service_namespace=%q} %d\n", top.Items[0].Service, top.Items[0].Namespace, asked)
		return setting() == "1" && w.counted() == asked && strings.Contains(w.metrics(), series)
	})
	if top := w.top(); top.Uncounted != "" || len(top.Items) != 1 || top.Items[0].PerSecond == nil {
		t.Errorf("top with estimation: %+v", top)
	}
}

// counted returns the connections that IPVS tells of.
func (w *world) counted() (n int) {
	w.t.Helper()
	for line := range strings.Lines(w.shell("ipvsadm -Ln --stats --exact")) {
		cells := strings.Fields(line)
		if len(cells) < 3 || cells[0] != "->" || strings.Contains(line, "RemoteAddress") {
			continue
		}
		var of int
		if _, err := fmt.Sscan(cells[2], &of); err != nil {
			w.t.Fatalf("%s: %v", line, err)
		}
		n += of
	}
	return n
}

// top returns what the subcommand does.
func (w *world) top() (out status.List[status.Rate]) {
	w.t.Helper()
	check(w.t, json.Unmarshal([]byte(w.shell(w.Path+" top --interval 100ms -o json")), &out))
	return out
}

// metrics returns all metrics.
func (w *world) metrics() string {
	w.t.Helper()
	text, err := child.Get(context.Background(), "http://"+child.Metrics+"/metrics")
	check(w.t, err)
	return text
}
