package check

import (
	"path/filepath"
	"testing"

	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
)

func TestEstimation(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   estimationFacts
		want []string
	}{
		{"IPVS is not loaded", estimationFacts{absent: true}, []string{"note: IPVS is not loaded yet"}},
		{"a small table", estimationFacts{now: "1", servers: 1000, cpus: 64}, []string{"ok: a timer walks 1000 virtual and real servers x 64 possible CPUs"}},
		{"a large one", estimationFacts{now: "1", servers: 4000, cpus: 64}, []string{"warning: a timer walks 4000 virtual and real servers x 64 possible CPUs every two seconds: for 10 ms and more ->"}},
		{"few servers, many CPUs", estimationFacts{now: "1", servers: 1000, cpus: 256}, []string{"warning: a timer walks 1000 ->"}},
		{"a large one, and kube-ipvs turns it off", estimationFacts{now: "1", wanted: "0", servers: 4000, cpus: 64}, []string{"note: a timer walks 4000 virtual"}},
		{"it is off", estimationFacts{now: "0", servers: 4000, cpus: 64}, []string{"note: off (net/ipv4/vs/run_estimation is 0) ->"}},
		{"it is off, and kube-ipvs turns it on", estimationFacts{now: "0", wanted: "1"}, []string{"note: off (net/ipv4/vs/run_estimation is 0): IPVS's counters of connections, packets and bytes stand still; kube-ipvs turns it on"}},
		{"it is off, as is asked for", estimationFacts{now: "0", wanted: "0"}, []string{"note: off (net/ipv4/vs/run_estimation is 0) ->"}},
		{"threads have no CPU", estimationFacts{now: "1", wanted: "1", threads: true, idle: true}, []string{"note: off (net/ipv4/vs/est_cpulist is empty): IPVS's counters ->"}},
		{"threads are off, and have no CPU", estimationFacts{now: "0", wanted: "1", threads: true, idle: true}, []string{"note: off (net/ipv4/vs/est_cpulist is empty) ->"}},
		{"threads do it", estimationFacts{now: "1", threads: true, servers: 4000, cpus: 64}, []string{"ok: threads estimate the rates of 4000"}},
		{"an old kernel", estimationFacts{servers: 1000, cpus: 64}, []string{"ok: a timer walks 1000"}},
		{"an old kernel that cannot turn it off", estimationFacts{wanted: "0", servers: 4000, cpus: 64},
			[]string{"note: this kernel has no net/ipv4/vs/run_estimation", "warning: a timer walks 4000 ->"}},
		{"an old kernel with a small table", estimationFacts{wanted: "0", servers: 4, cpus: 64}, []string{"ok: a timer walks 4 ", "note: this kernel has no net/ipv4/vs/run_estimation"}},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, judgeEstimation(tt.in, Wanted{}), tt.want...) })
	}
}

func TestEstimationIsRead(t *testing.T) {
	dir := t.TempDir()
	n := &Node{Proc: filepath.Join(dir, "proc"), Sys: filepath.Join(dir, "sys"), ProcSys: filepath.Join(dir, "settings")}
	w := Wanted{Settings: []sysctl.Setting{{Name: ipvs.RunEstimation, Value: "0"}}}
	files := map[string]string{
		"sys/devices/system/cpu/possible": "0-3,8\n",
		"proc/thread-self/net/ip_vs": `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr 
  -> C0A84D0B:192B      Masq    1      0          0         
  -> C0A84D0C:192B      Masq    1      0          0         
UDP  [fd00:0010:0096:0000:0000:0000:0000:000a]:0035 rr persistent 10800 FFFFFFFF
FWM  00000007 rr
`,
	}
	for _, step := range []struct {
		name string
		file string // that is made, of settings
		text string
		want estimationFacts
	}{
		{"IPVS is not loaded", "net/ipv4/ip_forward", "1\n", estimationFacts{absent: true}},
		{"an old kernel", "net/ipv4/vs/conntrack", "1\n", estimationFacts{wanted: "0", servers: 5, cpus: 5}},
		{"a timer", ipvs.RunEstimation, "1\n", estimationFacts{now: "1", wanted: "0", servers: 5, cpus: 5}},
		{"threads", ipvs.EstimationCPUs, "0-3,8\n", estimationFacts{now: "1", threads: true, wanted: "0", servers: 5, cpus: 5}},
		{"threads without a CPU", ipvs.EstimationCPUs, "\n", estimationFacts{now: "1", threads: true, idle: true, wanted: "0", servers: 5, cpus: 5}},
	} {
		files["settings/"+step.file] = step.text
		write(t, dir, files)
		if got, err := lookEstimation(t.Context(), n, w); err != nil || got != step.want {
			t.Errorf("%s: %+v, %v; want %+v", step.name, got, err, step.want)
		}
		settings, err := lookSettings(t.Context(), n, w)
		if told := len(settings) == 0; err != nil || told != (step.name == "an old kernel") {
			t.Errorf("%s: the settings are %+v, %v", step.name, settings, err)
		}
	}
}
