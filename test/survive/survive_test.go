//go:build kernel

// Package survive lets what happens to a program in years happen to kube-ipvs in minutes: the real binary, on a folder of
// manifests in the laboratory, is killed, flooded and interfered with while others use what it programmed.
package survive

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/lab"
)

// podPort is where pods serve.
const podPort = 8080

// A world is the laboratory with a program on a folder in it.
type world struct {
	*lab.Lab
	*program
	t      *testing.T
	folder folder
	before string // the kernel before the program touched it
}

// newWorld builds a laboratory with a folder in which no Service is yet. The program does not run.
func newWorld(t *testing.T) *world {
	t.Helper()
	l, err := lab.New(lab.Config{Pods: []string{"pod1", "pod2", "asker"}, RemotePods: []string{"far1"}, Forward: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, l.Close()) })
	for _, pod := range []string{"pod1", "pod2", "far1"} {
		if _, err := l.Serve(l.Pod(pod), inet.TCP, podPort, pod); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{Lab: l, t: t}
	w.folder = newFolder(t)
	w.program = newProgram(t, w.folder.dir)
	w.folder.write("cluster.yaml", cluster)
	// A first life makes what stays whatever the proxy does, and loads modules.
	w.start()
	w.settle()
	w.terminate()
	w.clean()
	w.before = w.kernel()
	return w
}

// kernel is all of the kernel that a proxy could touch, as text in which only what differs differs.
func (w *world) kernel() string {
	w.t.Helper()
	var out strings.Builder
	for _, command := range []string{
		"ipvsadm -Sn | sort",
		"ipset save | sed 's/ initval [^ ]*//; s/ hashsize [^ ]*//' | sort",
		"iptables-save", "ip6tables-save",
		"ip rule; ip -6 rule",
		"ip route show table all; ip -6 route show table all",
		"ip -br addr | sort",
	} {
		fmt.Fprintf(&out, "$ %s\n%s", command, w.shell(command))
	}
	return volatile.ReplaceAllString(out.String(), "")
}

// volatile is what changes by itself: counters of rules and the time at which they were listed.
var volatile = regexp.MustCompile(`(?m) \[[0-9:]*\]$|^#.*\n`)

func (w *world) shell(command string) string {
	w.t.Helper()
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// still waits until the kernel has not changed for a while, and returns it.
func (w *world) still(quiet time.Duration) string {
	w.t.Helper()
	last, since := w.kernel(), time.Now()
	for begin := since; time.Since(since) < quiet; time.Sleep(200 * time.Millisecond) {
		if now := w.kernel(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(begin) > time.Minute {
			w.t.Fatal("the kernel changes for more than a minute without a reason")
		}
	}
	return last
}

// endpoints of a pod, with an address of each family.
func (w *world) endpoint(pod, condition string) endpoint {
	node := "node1"
	if pod == "far1" {
		node = "node2"
	}
	return endpoint{w.Pod(pod).Addr(false), w.Pod(pod).Addr(true), node, condition}
}

func (w *world) endpoints(pods ...string) []endpoint {
	var out []endpoint
	for _, pod := range pods {
		out = append(out, w.endpoint(pod, ready))
	}
	return out
}

// settleLimit is how long an emulated machine may take, with the race detector. It measures nothing.
const settleLimit = 3 * time.Minute

// settle waits until the program has programmed all that was in the folder before.
func (w *world) settle() {
	w.t.Helper()
	since := time.Now()
	for !w.synced(since) {
		if time.Since(since) > settleLimit {
			w.t.Fatalf("not programmed within %v:\n%s", settleLimit, w.LastWords())
		}
		// Whatever was in the folder before is read before this file is.
		w.folder.write("touch.yaml", fmt.Sprintf("# %v\n", time.Now()))
		time.Sleep(100 * time.Millisecond)
	}
}

func check(t *testing.T, err error) {
	if err != nil {
		t.Helper()
		t.Error(err)
	}
}
