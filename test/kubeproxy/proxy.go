package kubeproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Modes of kube-proxy that the test kernel can run; it has no nftables.
const (
	IPTables = "iptables"
	IPVS     = "ipvs"
)

// A Config says how kube-proxy runs.
type Config struct {
	Program      string // its path: cluster.Build builds it, which takes a machine and not a test kernel
	Mode         string
	Node         string         // the name of a Node that the API has, with its addresses
	ClusterCIDRs []netip.Prefix // where pods are, one of each family; none: nobody can tell
	Flags        []string       // more of them, which win
	Log          string         // a file that gets what it prints
}

// flags are those of the configuration. What kube-proxy does beside serving Services is turned off, and so is waiting: it
// programs a change at once. Clients are not slowed down, and Events are sent by JSON, which is what the API speaks.
func (c Config) flags(api *API) []string {
	var cidrs []string
	for _, p := range c.ClusterCIDRs {
		cidrs = append(cidrs, p.String())
	}
	return append([]string{
		"--master=" + api.URL(), "--kube-api-content-type=application/json", "--kube-api-qps=1000", "--kube-api-burst=1000",
		"--proxy-mode=" + c.Mode, "--hostname-override=" + c.Node, "--cluster-cidr=" + strings.Join(cidrs, ","),
		"--iptables-min-sync-period=0s", "--ipvs-min-sync-period=0s",
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
	}, c.Flags...)
}

// A Proxy is a kube-proxy that runs. It dies with the test that started it.
type Proxy struct {
	api     *API
	config  Config
	command *exec.Cmd
	done    chan struct{} // closed when it has ended
	marker  marker
}

// Start starts kube-proxy and waits until it has programmed the objects that the API has.
func Start(ctx context.Context, api *API, config Config) (*Proxy, error) {
	log, err := os.Create(config.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &Proxy{api: api, config: config, command: exec.Command(config.Program, config.flags(api)...), done: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = log, log
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	if err := p.Settle(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// run starts the process and waits until it has ended.
func (p *Proxy) run(started chan<- error) {
	// The death signal comes when the thread ends that started the process (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	err := p.command.Start()
	started <- err
	if err == nil {
		p.command.Wait() // how it ended shows in its log
	}
}

// Pid is the number of the process.
func (p *Proxy) Pid() int { return p.command.Process.Pid }

// Stop ends kube-proxy. What it programmed stays, and so do the objects of Settle.
func (p *Proxy) Stop() error {
	err := p.command.Process.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		err = errors.Join(err, p.command.Process.Kill())
		<-p.done
	}
	return err
}

// Clean removes from the kernel what kube-proxy programmed in any mode. All of IPVS goes with it. After ipvs mode the first
// attempt fails: it removes iptables chains, to which those of ipvs mode still refer, before it removes these.
func Clean(ctx context.Context, program string) error {
	var err error
	for range 2 {
		var out []byte
		if out, err = exec.CommandContext(ctx, program, "--cleanup").CombinedOutput(); err == nil {
			return nil
		}
		err = fmt.Errorf("kube-proxy --cleanup: %w\n%s", err, out)
	}
	return err
}

// lastWords returns the end of what kube-proxy printed as an error.
func (p *Proxy) lastWords() error {
	const most = 4000
	text, err := os.ReadFile(p.config.Log)
	if err != nil {
		return err
	}
	return fmt.Errorf("kube-proxy, at the end of its log:\n%s", text[max(0, len(text)-most):])
}
