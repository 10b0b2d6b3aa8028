package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"kube-ipvs/internal/cli"
	"kube-ipvs/internal/config"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/kube"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program runs kube-ipvs without the process: it returns the exit status.
func program(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return cli.Run(ctx, command(), args, stdout, stderr)
}

func TestMisuseIsOneClearMessage(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string // in the message
	}{
		{"another mode", []string{"--mode=iptables"}, "--mode=iptables: kube-ipvs has the mode ipvs"},
		{"kube-proxy's mode", []string{"--proxy-mode=nftables"}, "--proxy-mode=nftables: that is kube-proxy's; set it to ipvs, or give --mode=ipvs"},
		{"no mode at all", []string{"--proxy-mode=fast"}, "--proxy-mode=fast: no such mode"},
		{"an unknown flag", []string{"--speed=11"}, "unknown flag: --speed"},
		{"an argument", []string{"serve"}, `unexpected argument "serve"`},
		{"handed back to nobody", []string{"hand-back"}, "accepts 1 arg(s), received 0"},
		{"handed back to no mode", []string{"hand-back", "ebpf"}, `invalid argument "ebpf"`},
		{"a bit that a mark does not have", []string{"--iptables-masquerade-bit=32"}, "--iptables-masquerade-bit=32: must be 0 to 31"},
		{"an unknown scheduler", []string{"--ipvs-scheduler=best"}, "--ipvs-scheduler=best: must be one of rr, wrr"},
		{"no range", []string{"--cluster-cidr=10.0.0.0"}, "--cluster-cidr=10.0.0.0: must be a range like 10.0.0.0/8"},
		{"node ports on no range", []string{"--nodeport-addresses=primary,eth0"}, "--nodeport-addresses=eth0: must be a range like 10.0.0.0/8, or primary, localhost or all"},
		{"no address", []string{"--healthz-bind-address=localhost:10256"}, "--healthz-bind-address=localhost:10256: must be ADDRESS or ADDRESS:PORT"},
		{"no file", []string{"--config=/nowhere"}, "--config: open /nowhere: no such file"},
		{"no time to wait", []string{"--ipvs-sync-period=0s"}, "--ipvs-sync-period=0s: must be more than 0"},
		{"a part of a second", []string{"--ipvs-tcp-timeout=1500ms"}, "--ipvs-tcp-timeout=1.5s: must be whole seconds"},
		{"a timeout that the kernel cannot count", []string{"--ipvs-udp-timeout=501h"}, "--ipvs-udp-timeout=501h0m0s: must be whole seconds from 0 to"},
		{"a timeout before now", []string{"--ipvs-tcpfin-timeout=-1s"}, "--ipvs-tcpfin-timeout=-1s: must be"},
		{"neither with estimation nor without", []string{"--ipvs-estimation=sometimes"}, "--ipvs-estimation=sometimes: must be one of on, off, or empty"},
		{"no number of series", []string{"--traffic-series=-1"}, "--traffic-series=-1: must be 0 or more"},
		{"an unknown detector", []string{"--detect-local-mode=Guess"}, "--detect-local-mode=Guess: must be one of ClusterCIDR"},
		{"no bridge", []string{"--detect-local-mode=BridgeInterface"}, "--pod-bridge-interface=: is missing: --detect-local-mode=BridgeInterface needs it"},
		{"no prefix", []string{"--detect-local-mode=InterfaceNamePrefix"}, "--pod-interface-name-prefix=: is missing: --detect-local-mode=InterfaceNamePrefix needs it"},
		{"an unknown way to take packets", []string{"--vip-mode=steal"}, "--vip-mode=steal: must be divert or bind"},
		{"an unknown format of logs", []string{"--logging-format=xml"}, "format"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, err bytes.Buffer
			if status := program(context.Background(), tt.args, &out, &err); status != cli.Failed {
				t.Errorf("exit status %d, want %d", status, cli.Failed)
			}
			if !strings.Contains(err.String(), tt.want) || out.Len() > 0 {
				t.Errorf("said %q and %q, want %q", out.String(), err.String(), tt.want)
			}
		})
	}
}

func TestVersionAndHelpDoNothing(t *testing.T) {
	for _, tt := range []struct{ arg, want string }{
		{"--version", "kube-ipvs devel\n"}, {"--version=true", "kube-ipvs devel\n"}, {"--version=raw", "kube-ipvs devel go1."}, {"--help", "--detect-local-mode"},
	} {
		var out, err bytes.Buffer
		if status := program(context.Background(), []string{tt.arg}, &out, &err); status != 0 {
			t.Errorf("%s: exit status %d: %s", tt.arg, status, err.String())
		}
		if !strings.Contains(out.String()+err.String(), tt.want) {
			t.Errorf("%s said %q, want %q", tt.arg, out.String()+err.String(), tt.want)
		}
	}
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		var out, problems strings.Builder
		exit := program(t.Context(), []string{"completion", shell}, &out, &problems)
		if exit != 0 || !strings.Contains(out.String(), "__complete") {
			t.Errorf("completion %s: %d %s", shell, exit, problems.String())
		}
	}
}

func TestDetector(t *testing.T) {
	ranges := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	tests := []struct {
		name string
		from config.DetectLocal
		want ipvsmode.Detector
	}{
		{"a range of each family", config.DetectLocal{Mode: config.ClusterCIDR, ClusterCIDRs: ranges("10.0.0.0/8", "fd00::/8")}, ipvsmode.Detector{Prefixes: ranges("10.0.0.0/8", "fd00::/8")}},
		{"no range", config.DetectLocal{Mode: config.ClusterCIDR}, ipvsmode.Detector{}},
		{"the node's ranges, the first of each family", config.DetectLocal{Mode: config.NodeCIDR}, ipvsmode.Detector{Prefixes: ranges("10.244.1.0/24")}},
		{"a bridge", config.DetectLocal{Mode: config.BridgeInterface, Interface: "cni0"}, ipvsmode.Detector{Interface: "cni0"}},
		{"names that begin alike", config.DetectLocal{Mode: config.InterfaceNamePrefix, Interface: "cali"}, ipvsmode.Detector{Interface: "cali+"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := detector(tt.from, ranges("10.244.1.0/24", "10.244.9.0/24"))
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A refusing table fails one kind of operation, if it has an error for it.
type refusing struct {
	*ipvs.Fake
	verb ipvs.Verb
	with error
}

func (r refusing) Do(ctx context.Context, ops []ipvs.Op) []error {
	if r.with != nil && ops[0].Verb == r.verb {
		return []error{r.with}
	}
	return r.Fake.Do(ctx, ops)
}

// The probe returns the reason in one line, and leaves nothing behind.
func TestProbe(t *testing.T) {
	for _, tt := range []struct {
		name, scheduler string
		verb            ipvs.Verb
		with            error
		left            bool // a killed process left its virtual server
		want            string
	}{
		{name: "all is well", scheduler: "rr"},
		{name: "somebody was killed while he tried", scheduler: "rr", left: true},
		{name: "a scheduler that is no module", scheduler: "best", want: "scheduler best: this kernel does not have it: modprobe ip_vs_best"},
		{name: "nothing can be added", scheduler: "rr", verb: ipvs.AddServer, with: os.ErrPermission, want: "probe IPVS: permission denied"},
		{name: "nothing can be removed", scheduler: "rr", verb: ipvs.DelServer, with: os.ErrPermission, want: "probe IPVS: permission denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := refusing{new(ipvs.Fake), tt.verb, tt.with}
			if tt.left {
				if err := probe(t.Context(), refusing{table.Fake, ipvs.DelServer, os.ErrPermission}, tt.scheduler); err == nil {
					t.Fatal("nothing was left")
				}
			}
			err := probe(t.Context(), table, tt.scheduler)
			if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if left := table.Table(); err == nil && len(left) > 0 {
				t.Errorf("left behind:\n%v", left)
			}
		})
	}
}

// A foreign virtual server of the probe's mark stays.
func TestProbeOfForeignMarks(t *testing.T) {
	table := new(ipvs.Fake)
	real := netip.MustParseAddrPort("192.0.2.20:80")
	for i, server := range []ipvs.Server{{Scheduler: "wlc"}, probed.Server} {
		key := probed.Key
		key.Mark -= uint32(i)
		server.Scheduler = "wlc"
		if errs := table.Do(t.Context(), []ipvs.Op{
			{Verb: ipvs.AddServer, Key: key, Server: server}, {Verb: ipvs.AddReal, Key: key, Addr: real, Real: ipvs.Real{Weight: 5}},
		}); errs != nil {
			t.Fatal(errs)
		}
	}
	before := fmt.Sprint(table.Table())
	if err := probe(t.Context(), table, "rr"); err != nil || fmt.Sprint(table.Table()) != before {
		t.Errorf("%v; left:\n%v\nwas:\n%v", err, table.Table(), before)
	}
	if err := probe(t.Context(), table, "best"); err == nil {
		t.Error("a scheduler that is none is not noticed")
	}
}

// The written configuration is kube-proxy's, and reads as the same configuration.
func TestWriteConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.conf")
	var out, err bytes.Buffer
	if status := program(t.Context(), []string{"--write-config-to=" + file, "--cluster-cidr=10.0.0.0/8", "", "--cleanup"}, &out, &err); status != 0 {
		t.Fatalf("exit status %d: %s", status, err.String())
	}
	text, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatal(readErr)
	}
	for _, want := range []string{"apiVersion: kubeproxy.config.k8s.io/v1alpha1\n", "clusterCIDR: 10.0.0.0/8\n", "mode: ipvs\n", "maxPerCore: 32768\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if status := program(t.Context(), []string{"--write-config-to=" + file + "/x"}, &out, &err); status != cli.Failed {
		t.Errorf("exit status %d where no file can be", status)
	}
}

func TestListenFailsIfItIsTo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var told []error
	err = listen(t.Context(), netip.MustParseAddrPort(l.Addr().String()), true, http.NotFoundHandler(), func(err error) { told = append(told, err) })
	if err == nil || !strings.Contains(err.Error(), "bindAddressHardFail") {
		t.Errorf("an address that is in use: %v", err)
	}
	if len(told) != 1 || !errors.Is(told[0], syscall.EADDRINUSE) {
		t.Errorf("told %v", told)
	}
}

// An address that is in use is tried again, and each failure is told until it is free.
func TestListenRetries(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(l.Addr().String())
	ctx, stop := context.WithCancel(t.Context())
	told, ended := make(chan error, 10), make(chan error)
	go func() { ended <- listen(ctx, at, false, http.NotFoundHandler(), func(err error) { told <- err }) }()
	if err := <-told; !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("told %v", err)
	}
	l.Close()
	awaitAnswer(t, at)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A configuration file that has become one that no start would take is a problem of the node, until it is as it was.
func TestRefusedConfigIsAProblem(t *testing.T) {
	var got []kube.Event
	p := proxy{problems: newNodeReporter(logr.Discard(), func(e kube.Event) { got = append(got, e) })}
	p.reportConfig(errors.New("clusterCIDR:\nno prefix"))
	want := []kube.Event{{Type: "Warning", Reason: "KubeIPVSProblem", NodeLocal: true, Note: "--config: goes on as before; the next start would end with: clusterCIDR: no prefix"}}
	if diff := cmp.Diff(want, got); diff != "" || len(p.problems.current()) != 1 {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if p.reportConfig(nil); len(p.problems.current()) != 0 {
		t.Errorf("still %q", p.problems.current())
	}
}

// A server that cannot be started is an Event on the Node, with kube-proxy's reason and action.
func TestUnboundServersAreEvents(t *testing.T) {
	var got []kube.Event
	p := proxy{postNodeEvent: func(e kube.Event) { got = append(got, e) }}
	p.unbound("FailedToStartProxierHealthcheck")(errors.New("in use"))
	want := []kube.Event{{Type: "Warning", Reason: "FailedToStartProxierHealthcheck", Action: "StartKubeProxy", Note: "in use"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
