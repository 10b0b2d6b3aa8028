package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"kube-ipvs/ipvs/sysctl"
)

func lookKernel(_ context.Context, n *Node, _ Wanted) (string, error) { return n.release(), nil }

// judgeKernel knows the releases that behave in another way than the one on which kube-ipvs is tested, Linux 6.1.
func judgeKernel(release string, _ Wanted) []Finding {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return []Finding{{Severity: Unknown, Found: fmt.Sprintf("the release %q has no number", release)}}
	}
	before := func(a, b int) bool { return major < a || major == a && minor < b }
	switch {
	case before(3, 19):
		return []Finding{{Severity: Error, Found: "Linux " + release + " has sets without marks (skbinfo, since 3.19)", Do: "update the kernel"}}
	case before(5, 9):
		return []Finding{{Severity: Warning, Found: "Linux " + release + ": a new connection from the port of an old one stays with the endpoint of that, even with one that drains (IPVS is" +
			" slow to choose again before 5.9, unless the distribution has backported kernel commit f0a5e4d7a594)", Do: "update the kernel to 5.9 or later"}}
	}
	return []Finding{{Severity: OK, Found: "Linux " + release}}
}

type capabilityFacts struct {
	effective uint64
	readOnly  bool // /proc/sys is mounted so
	procSys   string
}

func lookCapabilities(_ context.Context, n *Node, _ Wanted) (capabilityFacts, error) {
	caps, err := capabilities()
	f := capabilityFacts{effective: caps, procSys: n.ProcSys}
	var s unix.Statfs_t
	if statErr := unix.Statfs(n.ProcSys, &s); statErr == nil {
		f.readOnly = s.Flags&unix.ST_RDONLY != 0
	} else {
		err = errors.Join(err, statErr)
	}
	return f, err
}

func judgeCapabilities(f capabilityFacts, _ Wanted) []Finding {
	var out []Finding
	for _, c := range []struct {
		name string
		bit  int
		why  string
	}{
		{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN, "IPVS, sets, routes and rules cannot be changed"},
		{"CAP_NET_RAW", unix.CAP_NET_RAW, "iptables cannot be used, which has a raw socket"},
	} {
		if f.effective&(1<<c.bit) == 0 {
			out = append(out, Finding{Severity: Error, Found: c.name + " is missing: " + c.why, Do: "run as root, or give it to the container (securityContext.capabilities.add)"})
		}
	}
	if f.readOnly {
		out = append(out, Finding{Severity: Note, Found: f.procSys + " is mounted read-only, as in a container without privileges: settings that differ must be made elsewhere",
			Do: "make them on the node, or with kube-ipvs --init-only in a privileged init container, or name another mount with --proc-sys"})
	}
	if out == nil {
		out = append(out, Finding{Severity: OK, Found: "CAP_NET_ADMIN and CAP_NET_RAW; " + f.procSys + " can be written"})
	}
	return out
}

// A settingFact is a kernel setting that is wanted.
type settingFact struct {
	name, want, now string
	missing         bool
	writable        bool // by this process
}

func lookSettings(_ context.Context, n *Node, w Wanted) ([]settingFact, error) {
	var out []settingFact
	_, noIPVS := os.Stat(n.setting("net/ipv4/vs"))
	for _, s := range w.Settings {
		f := settingFact{name: s.Name, want: s.Value}
		text, err := os.ReadFile(n.setting(s.Name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			f.missing = true
			if isRunEstimation(s) && noIPVS == nil { // which judgeEstimation is about: nothing fails without it
				continue
			}
		case err != nil:
			return nil, err
		}
		f.now = sysctl.Normal(string(text))
		f.writable = unix.Faccessat(unix.AT_FDCWD, n.setting(s.Name), unix.W_OK, unix.AT_EACCESS) == nil
		out = append(out, f)
	}
	return out, nil
}

func judgeSettings(facts []settingFact, _ Wanted) []Finding {
	var out []Finding
	var later []string
	for _, f := range facts {
		is := fmt.Sprintf("%s is %s, not %s", f.name, f.now, f.want)
		do := sysctl.Setting{Name: f.name, Value: f.want}.String()
		switch {
		case f.missing && strings.HasPrefix(f.name, "net/ipv4/vs/"):
			later = append(later, f.name)
		case f.missing:
			out = append(out, Finding{Severity: Error, Found: "this kernel has no " + f.name, Do: "use a kernel that has it"})
		case f.now == f.want:
		case f.writable:
			out = append(out, Finding{Severity: Note, Found: is + "; kube-ipvs sets it"})
		default:
			out = append(out, Finding{Severity: Error, Found: is + ", and cannot be written from here", Do: do + ", or kube-ipvs --init-only with the rights for it"})
		}
	}
	if len(later) > 0 {
		out = append(out, Finding{Severity: Note, Found: "there when ip_vs is loaded: " + strings.Join(later, " ")})
	}
	if out == nil {
		out = append(out, Finding{Severity: OK, Found: fmt.Sprintf("all %d are as kube-ipvs needs them", len(facts))})
	}
	return out
}

type conntrackFacts struct {
	missing             bool
	count, max, buckets int
}

func lookConntrack(_ context.Context, n *Node, _ Wanted) (f conntrackFacts, err error) {
	if f.count, err = n.number("net/netfilter/nf_conntrack_count"); errors.Is(err, fs.ErrNotExist) {
		return conntrackFacts{missing: true}, nil
	}
	var errs [2]error
	f.max, errs[0] = n.number("net/netfilter/nf_conntrack_max")
	f.buckets, errs[1] = n.number("net/netfilter/nf_conntrack_buckets")
	return f, errors.Join(err, errs[0], errs[1])
}

// The shares of the table at which its size is a problem, in percent, and the entries for each bucket that are too many: a lookup
// walks half of them.
const (
	conntrackMuch    = 75
	conntrackFull    = 95
	conntrackPerList = 8
)

func judgeConntrack(f conntrackFacts, _ Wanted) []Finding {
	if f.missing {
		return []Finding{{Severity: Note, Found: "connection tracking is not loaded yet; it is with the first rule that uses it"}}
	}
	if f.max == 0 { // unlimited
		return []Finding{{Severity: OK, Found: fmt.Sprintf("%d connections, without a limit", f.count)}}
	}
	share := f.count * 100 / f.max
	is := Finding{Severity: OK, Found: fmt.Sprintf("%d of %d connections (%d %%), %d buckets", f.count, f.max, share, f.buckets)}
	more := fmt.Sprintf("--conntrack-max-per-core, or sysctl -w net/netfilter/nf_conntrack_max=%d", 2*f.max)
	switch {
	case share >= conntrackFull:
		is.Severity, is.Do = Error, "the kernel drops new connections when it is full: raise "+more
	case share >= conntrackMuch:
		is.Severity, is.Do = Warning, "raise "+more
	}
	out := []Finding{is}
	if f.buckets > 0 && f.max/f.buckets > conntrackPerList {
		out = append(out, Finding{Severity: Warning, Found: fmt.Sprintf("up to %d connections in one bucket, which each packet searches", f.max/f.buckets),
			Do: fmt.Sprintf("echo %d > /sys/module/nf_conntrack/parameters/hashsize", f.max/4)})
	}
	return out
}
