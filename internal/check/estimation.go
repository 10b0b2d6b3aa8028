package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/utils/cpuset"

	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
)

// estimationFacts are how IPVS estimates the rates of virtual and real servers.
type estimationFacts struct {
	absent  bool   // IPVS is not loaded
	now     string // the setting; empty: this kernel lacks it
	threads bool   // estimate, and no timer
	idle    bool   // the threads may run on no CPU
	wanted  string // the setting that is asked for; empty: any
	servers int    // virtual and real ones
	cpus    int    // that the kernel reads for each of them
}

func lookEstimation(_ context.Context, n *Node, w Wanted) (f estimationFacts, err error) {
	if _, err := os.Stat(n.setting("net/ipv4/vs")); err != nil {
		f.absent = errors.Is(err, fs.ErrNotExist)
		return f, unlessMissing(err)
	}
	run, err := os.ReadFile(n.setting(ipvs.RunEstimation))
	if unlessMissing(err) != nil {
		return f, err
	}
	f.now = sysctl.Normal(string(run))
	list, err := os.ReadFile(n.setting(ipvs.EstimationCPUs))
	if unlessMissing(err) != nil {
		return f, err
	}
	f.threads = err == nil
	f.idle = f.threads && sysctl.Normal(string(list)) == ""
	if i := slices.IndexFunc(w.Settings, isRunEstimation); i >= 0 {
		f.wanted = w.Settings[i].Value
	}
	text, err := os.ReadFile(filepath.Join(n.Proc, "thread-self/net/ip_vs"))
	if err != nil {
		return f, err
	}
	for line := range strings.Lines(string(text)) {
		if first, _, _ := strings.Cut(strings.TrimSpace(line), " "); slices.Contains([]string{"TCP", "UDP", "SCTP", "FWM", "->"}, first) {
			f.servers++
		}
	}
	f.servers -= strings.Count(string(text), "-> RemoteAddress:Port") // a heading
	text, err = os.ReadFile(filepath.Join(n.Sys, "devices/system/cpu/possible"))
	if err != nil {
		return f, err
	}
	cpus, err := cpuset.Parse(strings.TrimSpace(string(text)))
	f.cpus = cpus.Size()
	return f, err
}

// unlessMissing returns the error of reading a setting, but for that of a kernel that lacks it.
func unlessMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func isRunEstimation(s sysctl.Setting) bool { return s.Name == ipvs.RunEstimation }

// estimationMuch is the product of servers and CPUs from which on the timer is a finding. Linux 6.1 was seen to need 88 instructions for
// a server and 41 for each of its CPUs: 10 ms on a CPU that carries out a thousand million a second (docs/instructions.md). It was reported
// for 104 CPUs and 50,000 Services to take more than 200 ms (kernel commit 2232642ec3fb).
const estimationMuch = 250_000

func judgeEstimation(f estimationFacts, _ Wanted) []Finding {
	lacking := f.now == ""
	switch {
	case f.absent:
		return []Finding{{Severity: Note, Found: "IPVS is not loaded yet"}}
	case f.now == "0" || f.idle:
		return []Finding{judgeOff(f)}
	case f.threads:
		return []Finding{{Severity: OK, Found: fmt.Sprintf("threads estimate the rates of %d virtual and real servers", f.servers)}}
	}
	var out []Finding
	if lacking && f.wanted != "" {
		out = append(out, Finding{Severity: Note,
			Found: "this kernel has no " + ipvs.RunEstimation + " (Linux 5.17 and later): --ipvs-estimation has no effect"})
	}
	walk := fmt.Sprintf("a timer walks %d virtual and real servers x %d possible CPUs every two seconds", f.servers, f.cpus)
	switch {
	case f.servers*f.cpus < estimationMuch:
		return orOK(out, walk)
	case f.wanted == "0" && !lacking:
		return append(out, Finding{Severity: Note, Found: walk + "; kube-ipvs turns it off"})
	}
	do := "--ipvs-estimation=off: then IPVS's counters of connections, packets and bytes stand still, and kube-ipvs top and the" +
		" metrics of traffic have none; or a kernel in which threads do it, 6.2 or later"
	if lacking {
		do = "update the kernel: 5.17 and later can turn it off (--ipvs-estimation=off), and in 6.2 and later threads do it"
	}
	return append(out, Finding{Severity: Warning, Do: do,
		Found: walk + ": for 10 ms and more nothing else runs on its CPU, which packets and processes wait for"})
}

// judgeOff judges that nothing is estimated.
func judgeOff(f estimationFacts) Finding {
	const still = ": IPVS's counters of connections, packets and bytes stand still"
	off := "off (" + ipvs.RunEstimation + " is 0)" + still
	switch {
	case f.idle: // whatever run_estimation is
		return Finding{Severity: Note, Found: "off (" + ipvs.EstimationCPUs + " is empty)" + still, Do: "write a list of CPUs to it, if they are needed"}
	case f.now == f.wanted || f.wanted == "":
		return Finding{Severity: Note, Found: off, Do: "--ipvs-estimation=on, if they are needed"}
	}
	return Finding{Severity: Note, Found: off + "; kube-ipvs turns it on"}
}
