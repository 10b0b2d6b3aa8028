package kubeproxy

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"

	"kube-ipvs/test/child"
)

// Modes of kube-proxy. User-mode Linux has no nf_tables, and so not the last.
const (
	IPTables = "iptables"
	IPVS     = "ipvs"
	NFTables = "nftables"
)

// A Config says how kube-proxy runs.
type Config struct {
	Program      string // its path: cluster.Build builds it, which takes a machine and not a test kernel
	Mode         string
	Node         string         // the name of a Node that the API has, with its addresses
	ClusterCIDRs []netip.Prefix // where pods are, one of each family; none: nobody can tell
	Flags        []string       // more of them, which win
	Env          []string       // more variables of its environment, which win
	Log          string         // a file that gets what it prints
}

// flags are those of the configuration. What kube-proxy does beside serving Services is turned off, and so is waiting: it
// programs a change at once. Clients are not slowed down, and Events are sent by JSON, which is what the API speaks.
func (c Config) flags(api *API) []string {
	var cidrs []string
	for _, p := range c.ClusterCIDRs {
		cidrs = append(cidrs, p.String())
	}
	flags := []string{
		"--master=" + api.URL(), "--kube-api-content-type=application/json", "--kube-api-qps=1000", "--kube-api-burst=1000",
		"--proxy-mode=" + c.Mode, "--hostname-override=" + c.Node, "--cluster-cidr=" + strings.Join(cidrs, ","),
		"--iptables-min-sync-period=0s", "--ipvs-min-sync-period=0s",
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
	}
	if c.Mode == NFTables { // it serves one address of each family else, and not where Settle asks
		flags = append(flags, "--nodeport-addresses=0.0.0.0/0,::/0")
	}
	return append(flags, c.Flags...)
}

// A Proxy is a kube-proxy that runs. It dies with the test that started it.
type Proxy struct {
	program child.Program
	api     *API
	node    string
	marker  marker
}

// Start starts kube-proxy and waits until it has programmed the objects that the API has.
func Start(ctx context.Context, api *API, config Config) (*Proxy, error) {
	p := &Proxy{
		program: child.Program{Path: config.Program, Args: config.flags(api), Env: config.Env, Log: config.Log}, api: api, node: config.Node,
	}
	if err := p.program.Start(); err != nil {
		return nil, err
	}
	if err := p.Settle(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// Pid is the number of the process.
func (p *Proxy) Pid() int { return p.program.Pid() }

// Stop ends kube-proxy. What it programmed stays, and so do the objects of Settle.
func (p *Proxy) Stop() error {
	err := p.program.Stop()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM {
		return nil // it does not take the signal, which ends it
	}
	return err
}

// Clean removes from the kernel what kube-proxy programmed in any mode. All of IPVS goes with it. After ipvs mode the first
// attempt fails: it removes iptables chains, to which those of ipvs mode still refer, before it removes these.
func Clean(ctx context.Context, program string) error {
	p := child.Program{Path: program}
	if p.Clean(ctx) == nil {
		return nil
	}
	return p.Clean(ctx)
}
