//go:build kernel

package survive

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"kube-ipvs/internal/config"
	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/status"
)

// The subcommands are answered by the program in whatever life it is: a killed one leaves its socket behind. They see the
// Services, their endpoints and what IPVS counts.
func TestSubcommandsAreAnswered(t *testing.T) {
	w := newWorld(t)
	s := service{n: 1}
	w.folder.put(s, w.endpoints("pod1", "far1")...)
	for life := range 3 {
		w.start()
		w.settle()
		for range 4 {
			if a := w.Ask(context.Background(), w.Pod("asker"), inet.TCP, s.clusterIP(false)); a.Err != nil {
				t.Fatal(a.Err)
			}
		}
		var list status.List[status.Service]
		if err := json.Unmarshal([]byte(w.shell(w.Path+" get -o json")), &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 1 || list.Items[0].State != status.Served || list.Items[0].Ready != 4 || list.Items[0].Active+list.Items[0].Inactive == 0 {
			t.Errorf("life %d: %+v, want the Service, its 2 endpoints of 2 families each, and its connections", life, list.Items)
		}
		var nodes status.List[status.Node]
		if err := json.Unmarshal([]byte(w.shell(w.Path+" get --raw '/v1alpha1/nodes?settled=1ms'")), &nodes); err != nil || len(nodes.Items) != 1 {
			t.Fatalf("%v %+v", err, nodes)
		}
		if n := nodes.Items[0]; !n.Ready || n.Services != 1 || n.Programmed != n.Frontends || n.Frontends == 0 || n.Pending+n.Refused+n.Changed != 0 || !n.Waits.IsZero() {
			t.Errorf("life %d: the node is %+v, want one that has programmed all", life, n)
		}
		if mode := strings.TrimSpace(w.shell("stat -c %a:%u " + config.DefaultSocket)); mode != "600:0" {
			t.Errorf("the socket's mode and owner are %s", mode)
		}
		told := w.shell(fmt.Sprintf("%s explain %v --from %v", w.Path, s.clusterIP(false), w.Pod("asker").Addr(false)))
		if !strings.Contains(told, "delivered to one of 2 endpoints, each 1/2, source kept") {
			t.Errorf("explain: %s", told)
		}
		top := ""
		for begin := time.Now(); !strings.Contains(top, list.Items[0].Service) && time.Since(begin) < 10*time.Second; { // IPVS's counts are seconds old
			top = w.shell(fmt.Sprintf("%s top --interval %v", w.Path, 100*time.Millisecond))
		}
		if !strings.Contains(top, list.Items[0].Service) {
			t.Errorf("top: %s", top)
		}
		w.kill()
	}
}
