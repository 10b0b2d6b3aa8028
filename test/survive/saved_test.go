//go:build kernel

package survive

import (
	"os/exec"
	"strings"
	"testing"
)

// Rules that were saved without ours, as README says, are restored where the sets that ours refer to are not there; with ours
// they are not.
func TestSavedRules(t *testing.T) {
	w := newWorld(t)
	const others = "INPUT -s 192.0.2.7 -j DROP"
	w.shell("iptables -A " + others + "; ip6tables -A INPUT -s 2001:db8::7 -j DROP")
	t.Cleanup(func() { w.shell("iptables -F INPUT; ip6tables -F INPUT") })
	w.folder.put(service{n: 1}, w.endpoints("pod1")...)
	w.start()
	w.settle()
	dir := t.TempDir()
	w.shell("cd " + dir + "; for v in ip ip6; do ${v}tables-save >$v-all; ${v}tables-save | grep -v KIPVS >$v; done")
	w.terminate()
	w.clean()
	w.shell("iptables -F INPUT; ip6tables -F INPUT")
	for _, v := range []string{"ip", "ip6"} {
		if out, err := exec.Command("sh", "-c", v+"tables-restore <"+dir+"/"+v+"-all").CombinedOutput(); err == nil {
			t.Errorf("%stables-restore takes rules with sets that are not there: %s", v, out)
		}
		w.shell(v + "tables-restore <" + dir + "/" + v)
	}
	if got := w.shell("iptables-save; ip6tables-save"); !strings.Contains(got, "192.0.2.7/32 -j DROP") || !strings.Contains(got, "2001:db8::7/128 -j DROP") || strings.Contains(got, "KIPVS") {
		t.Errorf("restored:\n%s", got)
	}
}
