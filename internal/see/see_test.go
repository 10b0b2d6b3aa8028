package see

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"kube-ipvs/internal/cli"
	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/manifest"
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/status"
)

var update = flag.Bool("update", false, "write generated pages anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program runs the commands of this node, and returns the exit status.
func program(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := &cobra.Command{Use: "kube-ipvs", SilenceErrors: true, SilenceUsage: true}
	cmd.AddCommand(Commands("/none")...)
	return cli.Run(ctx, cmd, args, stdout, stderr)
}

// A seen is a kube-ipvs on fakes that serves a directory, and answers at a socket.
type seen struct {
	dir, socket string
	mux         *http.ServeMux
	table       *ipvs.Fake
	settings    *sysctl.Fake
	queue       *loop.Queue
	converged   chan error
	pods        map[netip.Addr]string
	ticks       atomic.Int64 // of the server's clock: two seconds for each answer to a command
}

// noon is the time at the first answer to each command.
var noon = time.Date(2026, time.November, 1, 12, 0, 0, 0, time.UTC)

// see runs a kube-ipvs on the demo's manifests until the test ends.
func see(t *testing.T) *seen {
	t.Helper()
	s := &seen{dir: t.TempDir(), table: new(ipvs.Fake), queue: loop.NewQueue(), converged: make(chan error, 100)}
	s.socket, s.settings = filepath.Join(s.dir, "socket"), sysctl.NewFake(sysctl.Setting{Name: ipvs.RunEstimation, Value: "1"})
	files, err := filepath.Glob("../../test/demo/manifests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("the demo's manifests: %v %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s.put(t, filepath.Base(file), string(text))
	}
	source := manifest.New(s.dir, "node1", s.queue, nil)
	ctx, stop := context.WithCancel(context.Background())
	l := ipvsmode.New(s.config(source))
	server := status.Server{
		Loop: l, Meter: ipvsmode.Meter{Table: &busy{Fake: s.table, reads: map[ipvs.Key]uint64{}}, Settings: s.settings}, Node: "node1", DrainLimit: 15 * time.Minute,
		Pods: func(context.Context, plan.Name) map[netip.Addr]string { return s.pods },
		State: func() status.Node {
			return status.Node{Version: "v1.2.3", Mode: "ipvs", VIPMode: "divert", Started: noon.Add(-26 * time.Hour), Ready: true, Synced: noon.Add(-3 * time.Second)}
		},
		Now: func() time.Time { return noon.Add(2 * time.Second * time.Duration(s.ticks.Add(1)-1)) },
	}
	mux := http.NewServeMux()
	server.Register(mux)
	s.mux = mux
	socket, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	answers := http.Server{Handler: mux}
	ended := make(chan error, 3)
	go func() { ended <- ignore(source.Run(ctx), context.Canceled) }()
	go func() { ended <- l.Run(ctx) }()
	go func() { ended <- ignore(answers.Serve(socket), http.ErrServerClosed) }()
	t.Cleanup(func() {
		stop()
		if err := answers.Close(); err != nil {
			t.Error(err)
		}
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	s.settle(t)
	return s
}

func ignore(err, expected error) error {
	if err == expected {
		return nil
	}
	return err
}

func (s *seen) config(source *manifest.Source) ipvsmode.Config {
	own := []netip.Addr{netip.MustParseAddr("192.168.77.11"), netip.MustParseAddr("fd00:77::11")}
	kernel := ipvsmode.FakeKernel(s.table)
	kernel.Sysctl = sysctl.NewFake(sysctl.Setting{Name: "net/ipv6/conf/kube-ipvs0/disable_ipv6", Value: "0"})
	return ipvsmode.Config{
		Config: loop.Config{
			Source: source, Queue: s.queue, Plan: plan.Config{Scheduler: "rr"},
			Node: func(context.Context) (plan.Node, []netip.Prefix, error) {
				return plan.Node{Name: "node1", Own: own, Addresses: own, Primary: own}, source.ServiceCIDRs(), nil
			},
			Health: func(plan.Name, *plan.Health) {}, Report: func(plan.Name, []plan.Problem) {},
			Converged: func(err error) { s.converged <- err },
		},
		Kernel:   kernel,
		Families: []inet.Family{inet.IPv4, inet.IPv6}, Marks: ipvsmode.MarksFor(14), DrainLimit: 15 * time.Minute,
		Detector: ipvsmode.Detector{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}},
		Metrics:  ipvsmode.NewMetrics(prometheus.NewRegistry(), loop.MetricsConfig{}),
	}
}

func (s *seen) put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A busy table counts more traffic each time that it is read, every two seconds by the server's clock.
type busy struct {
	*ipvs.Fake
	mu     sync.Mutex
	totals uint64
	reads  map[ipvs.Key]uint64
}

func (b *busy) grow(key ipvs.Key, reads uint64) {
	for at, r := range b.Table()[key].Reals {
		n := reads * uint64(r.Active)
		b.SetCounters(ipvs.RealKeyOf(key, at), ipvs.Counters{Connections: n, InPackets: 20 * n, OutPackets: 18 * n, InBytes: 2000 * n, OutBytes: 90000 * n})
	}
}

// CountReals implements the table of ipvsmode.Meter.
func (b *busy) CountReals(ctx context.Context, key ipvs.Key) (map[netip.AddrPort]ipvs.CountedReal, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads[key]++
	b.grow(key, b.reads[key])
	return b.Fake.CountReals(ctx, key)
}

// Totals implements the table of ipvsmode.Meter.
func (b *busy) Totals(ctx context.Context) (map[ipvs.Key]ipvs.Counters, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.totals++
	for key := range b.Table() {
		b.grow(key, b.totals)
	}
	return b.Fake.Totals(ctx)
}

// connect sets the established connections of an endpoint, and as many that are closing.
func (s *seen) connect(t *testing.T, server, endpoint string, n uint32) {
	t.Helper()
	key := ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort(server))
	if err := s.table.SetConnections(ipvs.RealKeyOf(key, netip.MustParseAddrPort(endpoint)), n, n); err != nil {
		t.Fatal(err)
	}
}

// change replaces text in a manifest, and waits until a command prints something.
func (s *seen) change(t *testing.T, name, old, now, command, expected string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil || !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q (%v)", name, old, err)
	}
	s.put(t, name, strings.Replace(string(text), old, now, 1))
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		out, problems, _ := s.run(t, command)
		if strings.Contains(out, expected) {
			return
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("kube-ipvs %s never printed %q: %s%s", command, expected, out, problems)
		}
	}
}

// settle waits until everything is programmed.
func (s *seen) settle(t *testing.T) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case err := <-s.converged:
			if err == nil {
				return
			}
		case <-limit:
			t.Fatal("not programmed within 30 s")
		}
	}
}

// run runs a command line, and returns its output and exit status.
func (s *seen) run(t *testing.T, line string) (stdout, stderr string, exit int) {
	t.Helper()
	var out, problems bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s.ticks.Store(0)
	args := append(strings.Fields(line), "--socket="+s.socket)
	if args[0] == "top" {
		args = append(args, "--interval=1ms")
	}
	exit = program(ctx, args, &out, &problems)
	return out.String(), problems.String(), exit
}

// late is a Service that wants an external IP and port that another one has, and one that another program has.
const late = `
apiVersion: v1
kind: Service
metadata: {name: late, creationTimestamp: "2026-11-01T11:00:00Z"}
spec:
  clusterIP: 10.96.10.99
  externalIPs: [203.0.113.33, 203.0.113.34]
  ports: [{port: 8711, targetPort: 8080}]
  selector: {app: echo}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: late-1, labels: {kubernetes.io/service-name: late}}
addressType: IPv4
ports: [{port: 8080}]
endpoints:
- {addresses: [10.244.1.11], nodeName: node1}
`

// TestSeePage holds docs/see.md to the output of each command in it, on the demo's manifests; -update writes it.
func TestSeePage(t *testing.T) {
	s := see(t)
	s.connect(t, "10.96.10.1:6711", "10.244.1.11:8080", 3)
	s.connect(t, "10.96.10.1:6711", "10.244.2.11:8080", 1)
	s.connect(t, "10.96.10.6:8711", "10.244.1.12:8080", 2)
	s.change(t, "echo.yaml", "[10.244.2.11], nodeName: node2}", "[10.244.2.11], nodeName: node2, conditions: {ready: false}}", "get drains", "10.244.2.11:8080")
	s.change(t, "echo-local.yaml", "- {addresses: [10.244.1.11], nodeName: node1} # echo-1\n- {addresses: [10.244.1.12], nodeName: node1} # echo-2\n", "", "get svc/echo-local", "Limited")
	foreign := ipvs.Op{Verb: ipvs.AddServer, Key: ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("203.0.113.34:8711")), Server: ipvs.Server{Scheduler: "wlc"}}
	if errs := s.table.Do(t.Context(), []ipvs.Op{foreign}); errs != nil {
		t.Fatal(errs)
	}
	s.put(t, "late.yaml", "")
	s.change(t, "late.yaml", "", late, "get svc/late", "Limited   1/3")
	keepPage(t, "../../docs/see.md", "kube-ipvs ", 5, func(command string) string {
		out, problems, exit := s.run(t, command)
		if exit != 0 {
			t.Errorf("kube-ipvs %s: %s", command, problems)
		}
		return out
	})
}

// keepPage holds a page to the output of each command in it that begins with a name; -update writes it.
func keepPage(t *testing.T, page, name string, fewest int, run func(command string) string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	want := regexp.MustCompile(`(?m)^    \$ `+name+`(.*)\n((    .*)?\n)*`).ReplaceAllStringFunc(string(text), func(block string) string {
		line, _, _ := strings.Cut(block, "\n")
		commands++
		for l := range strings.Lines(run(strings.TrimPrefix(line, "    $ "+name))) {
			line += "\n" + strings.TrimRight("    "+l, " \n")
		}
		return line + "\n\n"
	})
	if commands < fewest {
		t.Errorf("%d commands on the page, which cannot be all", commands)
	}
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("%s is not what the commands print; go test ./internal/see -update (-want +got):\n%s", page, diff)
	}
}
