package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kube-ipvs/sync/node"
)

// An APIAnswer is the API server's account of itself.
type APIAnswer struct {
	Version    string
	Skew       time.Duration  // its clock less this node's
	ServiceIPs []netip.Addr   // the cluster IPs at which Services reach it
	Ranges     []netip.Prefix // of cluster IPs
}

type apiFacts struct {
	host      string
	addrs     []netip.Addr // of the host
	answer    APIAnswer
	unreached error
}

func lookAPI(ctx context.Context, n *Node, w Wanted) (apiFacts, error) {
	if w.API == "" {
		return apiFacts{}, nil
	}
	u, err := url.Parse(w.API)
	if err != nil {
		return apiFacts{}, err
	}
	f := apiFacts{host: u.Hostname()}
	if a, err := netip.ParseAddr(f.host); err == nil {
		f.addrs = []netip.Addr{a.Unmap()}
	} else if f.addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", f.host); err != nil {
		f.unreached = err
		return f, nil
	}
	f.answer, f.unreached = n.API(ctx, w)
	return f, nil
}

func judgeAPI(f apiFacts, w Wanted) []Finding {
	const remedy = "give kube-ipvs an address of the API server's own: --master, --kubeconfig, --kubelet-kubeconfig, or the environment variables KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT"
	if w.NoAPI != nil {
		return []Finding{{Severity: Error, Found: w.NoAPI.Error(), Do: "set --kubeconfig, --kubelet-kubeconfig or --master, or --manifests to run without a cluster"}}
	}
	if w.API == "" {
		return []Finding{{Severity: OK, Found: "none is needed: --manifests has the Services"}}
	}
	isService := func(a netip.Addr) bool {
		return slices.Contains(f.answer.ServiceIPs, a.Unmap()) || slices.ContainsFunc(f.answer.Ranges, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
	}
	i := slices.IndexFunc(f.addrs, isService)
	switch {
	case f.unreached == nil && i >= 0:
		return []Finding{{Severity: Error, Found: fmt.Sprintf("%s is a cluster IP (%v): it answers only while some service proxy serves it, so after a reboot kube-ipvs would wait for itself", w.API, f.addrs[i]), Do: remedy}}
	case f.unreached == nil:
		return []Finding{{Severity: OK, Found: fmt.Sprintf("%s answers (%s), and is no cluster IP", w.API, f.answer.Version)}}
	case w.InCluster:
		return []Finding{{Severity: Error, Found: fmt.Sprintf("%s does not answer: %v. Kubelet gives each pod this address, which is a cluster IP unless the pod overrides it", w.API, f.unreached), Do: remedy}}
	}
	return []Finding{{Severity: Error, Found: fmt.Sprintf("%s does not answer: %v", w.API, f.unreached), Do: remedy}}
}

type timeFacts struct {
	reached      bool // the API server
	skew         time.Duration
	synchronised bool
	source       string // of the kernel's monotonic clock; empty: not known
}

func lookTime(ctx context.Context, n *Node, w Wanted) (timeFacts, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return timeFacts{}, fmt.Errorf("adjtimex: %w", err)
	}
	f := timeFacts{synchronised: state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0}
	text, _ := os.ReadFile(filepath.Join(n.Sys, "devices/system/clocksource/clocksource0/current_clocksource")) // a container may hide it
	f.source = strings.TrimSpace(string(text))
	if w.API != "" {
		answer, err := n.API(ctx, w)
		f.reached, f.skew = err == nil, answer.Skew
	}
	return f, nil
}

// The skews of clocks at which the ages of Events, and then certificates and tokens, are wrong. The API server tells the second only.
const (
	muchSkew    = 5 * time.Second
	tooMuchSkew = 5 * time.Minute
)

func judgeTime(f timeFacts, _ Wanted) []Finding {
	var out []Finding
	skew := f.skew.Abs().Round(time.Second)
	is := map[bool]string{true: "behind", false: "ahead of"}[f.skew > 0]
	do := "let chronyd, ntpd or systemd-timesyncd keep this node's clock (and the API server's)"
	switch {
	case f.reached && skew >= tooMuchSkew:
		out = append(out, Finding{Severity: Error, Found: fmt.Sprintf("this node's clock is %v %s the API server's: certificates and tokens may not be valid", skew, is), Do: do})
	case f.reached && skew >= muchSkew:
		out = append(out, Finding{Severity: Warning, Found: fmt.Sprintf("this node's clock is %v %s the API server's", skew, is), Do: do})
	case !f.synchronised:
		out = append(out, Finding{Severity: Note, Found: "no program tells the kernel that it keeps this node's clock", Do: do})
	case f.reached:
		out = append(out, Finding{Severity: OK, Found: "the API server's clock agrees"})
	default:
		out = append(out, Finding{Severity: OK, Found: "a program keeps this node's clock"})
	}
	if strings.HasSuffix(f.source, "jiffies") {
		out = append(out, Finding{Severity: Warning, Found: "the kernel's monotonic clock is " + f.source + ", which loses time when interrupts are late: timeouts and drains last longer",
			Do: "see /sys/devices/system/clocksource/clocksource0/available_clocksource and dmesg for why it has no better one"})
	}
	return out
}

type bridgeFacts struct {
	bridge node.Bridge
	off    []string // settings that are not 1
	loaded bool     // br_netfilter
}

func lookBridge(_ context.Context, n *Node, w Wanted) (bridgeFacts, error) {
	b, err := node.PodBridge(w.PodBridge, w.PodRanges)
	f := bridgeFacts{bridge: b}
	for _, s := range []struct {
		name      string
		concerned bool
	}{{"net/bridge/bridge-nf-call-iptables", b.IPv4}, {"net/bridge/bridge-nf-call-ip6tables", b.IPv6}} {
		value, readErr := n.number(s.name)
		if readErr != nil && !errors.Is(readErr, os.ErrNotExist) {
			err = errors.Join(err, readErr)
		}
		f.loaded = f.loaded || readErr == nil
		if s.concerned && value != 1 {
			f.off = append(f.off, s.name)
		}
	}
	return f, err
}

func judgeBridge(f bridgeFacts, _ Wanted) []Finding {
	switch {
	case f.bridge.Name == "":
		return []Finding{{Severity: OK, Found: "no bridge has an address of pods"}}
	case len(f.off) == 0:
		return []Finding{{Severity: OK, Found: "packets between pods on bridge " + f.bridge.Name + " pass iptables"}}
	}
	var do []string
	if !f.loaded {
		do = append(do, "modprobe br_netfilter")
	}
	for _, name := range f.off {
		do = append(do, "sysctl -w "+name+"=1")
	}
	return []Finding{{Severity: Error, Found: "pods on bridge " + f.bridge.Name + " get no answer from Services with an endpoint on the same bridge: " + strings.Join(f.off, ", ") + " is not 1",
		Do: strings.Join(do, "; ")}}
}
