package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"kube-ipvs/internal/inet"

	"github.com/coreos/go-iptables/iptables"
)

// Commands is the running kernel's packet filter, through the commands of iptables. Each call starts processes, so it
// serves the start, repairs and rare checks. It is safe for use by several goroutines.
//
// The commands are run here and not by github.com/coreos/go-iptables, which changes one rule a process, without
// transactions.
type Commands struct {
	infix        string // between "iptables" and "-save": "-nft", "-legacy", or "" for the node's default
	nft          bool   // the backend is nft
	run          runner
	fingerprints fingerprints

	mu        sync.Mutex
	ensured   map[inet.Family]string // the rules after Ensure, as iptables-save prints them
	jumps     map[inet.Family][]Jump
	kubeProxy map[inet.Family]bool // its rules were there when all rules were last read
	readings  int                  // that began
	newest    map[inet.Family]int  // of those that kubeProxy is from
}

var _ Kernel = (*Commands)(nil)

// A runner runs a command with that standard input and returns its standard output.
type runner func(ctx context.Context, stdin, name string, arg ...string) (string, error)

// The timeouts of one command. If iptables is a script, killing it ends the shell alone; waitDelay bounds the wait for
// its children, which hold its output open.
const (
	lockWait  = "5" // seconds, for the lock that all iptables commands share
	runLimit  = 30 * time.Second
	waitDelay = time.Second
)

// Open detects this node's backend of iptables: nft or legacy. Both may work, but nobody finds rules in the unused one.
// Kubelet leaves a hint since 1.26 (KEP-3178); without it the node's default counts. The error is exec.ErrNotFound if
// iptables is not installed.
func Open(ctx context.Context) (*Commands, error) { return open(ctx, run) }

func open(ctx context.Context, run runner) (*Commands, error) {
	return find(ctx, run, func(p *Commands) error { return p.restore(ctx, inet.IPv4, probe) })
}

// OpenReadOnly is Open without a write: without the hint, a backend that can be read counts as working. It is for Commands that
// nobody calls Ensure or Remove of.
func OpenReadOnly(ctx context.Context) (*Commands, error) { return findByReading(ctx, run) }

func findByReading(ctx context.Context, run runner) (*Commands, error) {
	return find(ctx, run, func(p *Commands) error { _, err := p.save(ctx, inet.IPv4); return err })
}

// find detects the backend. Works checks one that no hint names.
func find(ctx context.Context, run runner, works func(*Commands) error) (*Commands, error) {
	for _, p := range []*Commands{commands("-nft", true, run), commands("-legacy", false, run)} {
		// All tables are read, not only the one with the hint: reading a missing legacy table by name creates it.
		out, err := run(ctx, "", p.command(inet.IPv4, "-save"))
		if err == nil && (strings.Contains(out, "KUBE-IPTABLES-HINT") || strings.Contains(out, "KUBE-KUBELET-CANARY")) {
			return p, nil
		}
	}
	version, err := run(ctx, "", "iptables", "--version") // iptables v1.8.9 (nf_tables)
	errs := []error{err}
	for _, p := range []*Commands{
		commands("", strings.Contains(version, "nf_tables"), run), commands("-nft", true, run), commands("-legacy", false, run),
	} {
		err := works(p)
		if err == nil {
			return p, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no iptables works here: %w", errors.Join(errs...))
}

// probe makes a chain and removes it again: reading alone also succeeds on kernels without support for writing.
const probe = "*mangle\n:KIPVS-PROBE - [0:0]\n-X KIPVS-PROBE\nCOMMIT\n"

func commands(infix string, nft bool, run runner) *Commands {
	return &Commands{infix: infix, nft: nft, run: run, ensured: map[inet.Family]string{}, jumps: map[inet.Family][]Jump{}, kubeProxy: map[inet.Family]bool{}, newest: map[inet.Family]int{}}
}

// other returns the unused backend.
func (p *Commands) other() *Commands {
	if p.nft {
		return commands("-legacy", false, p.run)
	}
	return commands("-nft", true, p.run)
}

// Close closes the sockets of Fingerprint. The rules stay.
func (p *Commands) Close() error { return p.fingerprints.close() }

// Backend returns the backend: "nft" or "legacy".
func (p *Commands) Backend() string {
	if p.nft {
		return "nft"
	}
	return "legacy"
}

// HasRandomFully reports whether MASQUERADE supports --random-fully, as iptables does since 1.6.2. The check of the
// version is that of go-iptables, the only use of that package.
func (p *Commands) HasRandomFully() (bool, error) {
	tables, err := iptables.New(iptables.Path(p.command(inet.IPv4, "")))
	if err != nil {
		return false, fmt.Errorf("version of iptables: %w", err)
	}
	return tables.HasRandomFully(), nil
}

// Ensure implements Kernel. Chains and missing jumps are one transaction in each table: no packet meets a part of them.
func (p *Commands) Ensure(ctx context.Context, r Ruleset) error {
	reading := p.reading()
	saved, err := p.save(ctx, r.Family)
	if err != nil {
		return err
	}
	found, err := parse(saved)
	if err != nil {
		return err
	}
	p.notice(ctx, r.Family, reading, saved)
	if err := p.restore(ctx, r.Family, r.restore(found.missing(r.Jumps, saved), saved)); err != nil {
		return err
	}
	if err := p.restore(ctx, r.Family, found.without(r).removal()); err != nil {
		return err
	}
	if !p.hasEnsured(r.Family) { // remove rules of an earlier run on the other backend
		other, err := p.other().removeReadable(ctx, r.Family)
		if hasKubeProxys(other) {
			p.setKubeProxy(r.Family, true)
		}
		if err != nil {
			return err
		}
	}
	// Rules that others removed meanwhile would stay missing if the current state became the reference of InSync.
	after, err := p.read(ctx, r.Family)
	if err != nil {
		return err
	}
	if err := after.lacks(r); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ensured[r.Family], p.jumps[r.Family] = after.String(), r.Jumps
	return nil
}

func (p *Commands) hasEnsured(f inet.Family) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ensured[f] != ""
}

// InSync implements Kernel.
func (p *Commands) InSync(ctx context.Context, f inet.Family) (bool, error) {
	reading := p.reading()
	saved, err := p.save(ctx, f)
	if err != nil {
		return false, err
	}
	found, err := parse(saved)
	if err != nil {
		return false, err
	}
	p.notice(ctx, f, reading, saved)
	p.mu.Lock()
	defer p.mu.Unlock()
	misplaced := slices.ContainsFunc(p.jumps[f], func(j Jump) bool { _, is := j.place(saved); return is })
	return found.String() == p.ensured[f] && !misplaced, nil
}

// Remove implements Kernel.
func (p *Commands) Remove(ctx context.Context, f inet.Family) error {
	found, err := p.read(ctx, f)
	if err != nil {
		return err
	}
	err = p.restore(ctx, f, found.removal())
	_, otherErr := p.other().removeReadable(ctx, f)
	return errors.Join(err, otherErr)
}

// removeReadable removes owned rules, if rules can be read, and returns the rules that it has read. If not, there are none: the
// kernel or the node lacks this backend.
func (p *Commands) removeReadable(ctx context.Context, f inet.Family) (saved string, err error) {
	saved, err = p.save(ctx, f)
	if err != nil {
		return "", ctx.Err()
	}
	found, err := parse(saved)
	if err != nil {
		return saved, ctx.Err()
	}
	return saved, p.restore(ctx, f, found.removal())
}

// read returns the owned rules.
func (p *Commands) read(ctx context.Context, f inet.Family) (owned, error) {
	saved, err := p.save(ctx, f)
	if err != nil {
		return nil, err
	}
	return parse(saved)
}

func (p *Commands) save(ctx context.Context, f inet.Family) (string, error) {
	return p.run(ctx, "", p.command(f, "-save"))
}

func (p *Commands) restore(ctx context.Context, f inet.Family, text string) error {
	if text == "" {
		return nil
	}
	_, err := p.run(ctx, text, p.command(f, "-restore"), "--noflush", "--wait", lockWait)
	return err
}

func (p *Commands) command(f inet.Family, suffix string) string {
	if f == inet.IPv6 {
		return "ip6tables" + p.infix + suffix
	}
	return "iptables" + p.infix + suffix
}

// run runs a command, and kills it when the context is done. The error has the command's error output and the rule at
// the line that it refers to.
func run(ctx context.Context, stdin, name string, arg ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, arg...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.WaitDelay = waitDelay
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil { // the cause of "signal: killed"
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return "", fmt.Errorf("%s: %w%s", strings.Join(append([]string{name}, arg...), " "), err, explain(stderr.String(), stdin))
	}
	return stdout.String(), nil
}
