//go:build kernel

package survive

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"kube-ipvs/test/child"
)

// TestInitOnly makes all settings of the kernel, without an API server, and serves nothing.
func TestInitOnly(t *testing.T) {
	w := newWorld(t)
	keepSettings(t, w, "net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_tcp_timeout_established", "net/ipv4/conf/all/arp_ignore", "net/ipv4/conf/all/arp_announce")
	out, err := exec.Command(w.Path, "--init-only", "--ipvs-udp-timeout=77s", "--conntrack-max-per-core=300000", "--conntrack-min=0",
		"--conntrack-tcp-timeout-established=2h", "--ipvs-strict-arp").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for command, want := range map[string]string{
		"ipvsadm -L --timeout":                                             "86400 120 77",
		"cat /proc/sys/net/netfilter/nf_conntrack_max":                     strconv.Itoa(300_000 * runtime.NumCPU()),
		"cat /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established": "7200",
		"cat /proc/sys/net/ipv4/vs/conntrack":                              "1",
		"cat /proc/sys/net/ipv4/conf/all/arp_ignore":                       "1",
	} {
		if got := strings.TrimSpace(w.shell(command)); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q, want %s", command, got, want)
		}
	}
	if now := w.kernel(); now != w.before {
		t.Errorf("more than settings was made:\n%s", now)
	}
}

// keepSettings gives settings of the kernel, and the timeout of UDP, their values back when a test ends.
func keepSettings(t *testing.T, w *world, names ...string) {
	t.Helper()
	for _, name := range names {
		value := strings.TrimSpace(w.shell("cat /proc/sys/" + name))
		t.Cleanup(func() { w.shell("echo " + value + " > /proc/sys/" + name) })
	}
	t.Cleanup(func() { w.shell("ipvsadm --set 0 0 300") })
}

// TestConfigFile starts with a configuration file of kube-proxy. When another is renamed over it, the program ends, so that its
// supervisor starts it with the new one, and the kernel goes on.
func TestConfigFile(t *testing.T) {
	w := newWorld(t)
	const header = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmetadata: {name: config}\nmode: ipvs\n"
	file := filepath.Join(t.TempDir(), "config.conf")
	check(t, os.WriteFile(file, []byte(header+"clusterCIDR: 10.244.0.0/16,fd00:10:244::/48\nhealthzBindAddress: 127.0.0.1\n"), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.Path, "--config="+file, "--manifests="+w.folder.dir, "--hostname-override=Node1", "--oom-score-adj=7")
	var log bytes.Buffer
	cmd.Stderr = &log
	check(t, cmd.Start())
	web := service{n: 1}
	w.folder.put(web, w.endpoints("pod1")...)
	for !child.Healthy(ctx) || !strings.Contains(w.shell("ipvsadm -Ln"), web.clusterIP(false).String()) {
		if time.Sleep(100 * time.Millisecond); ctx.Err() != nil {
			t.Fatalf("it does not serve: %s", log.String())
		}
	}
	table := w.shell("ipvsadm -Sn")
	check(t, os.WriteFile(file+".new", []byte(header), 0o600))
	check(t, os.Rename(file+".new", file))
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(log.String(), "has changed: a new start is needed") {
		t.Errorf("%v\n%s", err, log.String())
	}
	for _, want := range []string{`unknown field \"metadata\"`, "and not --oom-score-adj"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log.String())
		}
	}
	if now := w.shell("ipvsadm -Sn"); now != table {
		t.Errorf("the kernel did not stay:\n%s", now)
	}
}
