package main

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// A proxy is a service proxy under test, or the reference.
type proxy struct {
	name    string
	heading string // in the table of results
	program string
	ready   string // path at healthzPort that reports whether it serves all that there is
	flags   []string
}

// proxies are those that can be asked for, and by themselves but for the last. kube-proxy is the reference: what fails there fails for the bed's sake.
var proxies = []proxy{
	{"divert", "divert", "kube-ipvs", "/readyz", []string{"--vip-mode=divert"}},
	{"bind", "bind", "kube-ipvs", "/readyz", []string{"--vip-mode=bind"}},
	// All nodes share the test kernel's limit, which a node's namespace cannot change.
	{"iptables", "kube-proxy, iptables", "kube-proxy", "/healthz", []string{"--proxy-mode=iptables", "--conntrack-max-per-core=0"}},
	{"ipvs", "kube-proxy, ipvs", "kube-proxy", "/healthz", []string{"--proxy-mode=ipvs", "--conntrack-max-per-core=0"}},
}

func proxyNamed(name string) (proxy, error) {
	i := slices.IndexFunc(proxies, func(p proxy) bool { return p.name == name })
	if i < 0 {
		return proxy{}, fmt.Errorf("no proxy %q", name)
	}
	return proxies[i], nil
}

// proxiesNamed returns the proxies of a list with commas, which may be empty.
func proxiesNamed(names string) ([]proxy, error) {
	if names == "" {
		return nil, nil
	}
	var list []proxy
	var errs []error
	for name := range strings.SplitSeq(names, ",") {
		p, err := proxyNamed(name)
		list, errs = append(list, p), append(errs, err)
	}
	return list, errors.Join(errs...)
}

// command returns what runs on a node.
func (p proxy) command(s setting) []string {
	return append([]string{filepath.Join(s.bin, p.program), "--kubeconfig=" + s.kubeconfig(), "--hostname-override=$(NODE_NAME)",
		"--cluster-cidr=" + podCIDRs, fmt.Sprintf("--metrics-bind-address=0.0.0.0:%d", metricsPort), "-v=2"}, p.flags...)
}

// A setting says where everything is, in all the processes that take part.
type setting struct {
	bin   string // folder of programs
	state string // folder of what one proxy's run leaves: results, logs, the kubeconfig file
	name  string // of the proxy
	count int    // of nodes
}

func (s *setting) flags(flags *flag.FlagSet) {
	flags.StringVar(&s.bin, "bin", "", "`folder` of programs")
	flags.StringVar(&s.state, "state", "", "`folder` of results and logs")
	flags.StringVar(&s.name, "proxy", "", "the proxy's `name`")
	flags.IntVar(&s.count, "count", 0, "`number` of nodes")
}

// args returns the command line that gives another process this setting.
func (s setting) args() []string {
	return []string{"-bin=" + s.bin, "-state=" + s.state, "-proxy=" + s.name, fmt.Sprintf("-count=%d", s.count)}
}

func (s setting) proxy() (proxy, error) { return proxyNamed(s.name) }
func (s setting) kubeconfig() string    { return filepath.Join(s.state, "kubeconfig") }
func (s setting) logs() string          { return filepath.Join(s.state, "logs") }
func (s setting) results() string       { return filepath.Join(s.state, "results") }
