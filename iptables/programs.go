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

	"github.com/coreos/go-iptables/iptables"
)

// Programs is the running kernel's packet filter, through the programs of the iptables package. Each use starts
// processes, so it is used at start and to repair, and not otherwise. It is safe for use by several goroutines.
type Programs struct {
	variant string // what stands between "iptables" and "-save": "-nft", "-legacy", or "" for what the node calls iptables
	nft     bool   // whether that is iptables on nft
	run     runner
	tracer  tracer

	mu       sync.Mutex
	standing map[Family]string // what Ensure left, as iptables-save prints it
	jumps    map[Family][]Jump
}

var _ Kernel = (*Programs)(nil)

// A runner runs a program with that standard input and returns its standard output.
type runner func(ctx context.Context, stdin, name string, arg ...string) (string, error)

// The limits of one program: how long it waits for the lock that all iptables programs share, how long it may take in all,
// and how long what it started may hold its output open after it was killed. (Where iptables is a script, to kill it ends
// the shell alone.)
const (
	lockWait  = "5"
	runLimit  = 30 * time.Second
	waitDelay = time.Second
)

// Open finds out which iptables this node uses: nft or legacy. Both may work, but rules in one that nobody else uses are
// rules that nobody finds. Kubelet leaves a hint since 1.26 (KEP-3178); without it the node's default counts. The error
// is exec.ErrNotFound if iptables is not installed.
func Open(ctx context.Context) (*Programs, error) { return open(ctx, run) }

func open(ctx context.Context, run runner) (*Programs, error) {
	for _, p := range []*Programs{programs("-nft", true, run), programs("-legacy", false, run)} {
		// All tables are read, not only the one with the hint: to ask for a legacy table makes it where there is none.
		out, err := run(ctx, "", p.program(IPv4, "-save"))
		if err == nil && (strings.Contains(out, "KUBE-IPTABLES-HINT") || strings.Contains(out, "KUBE-KUBELET-CANARY")) {
			return p, nil
		}
	}
	version, err := run(ctx, "", "iptables", "--version") // iptables v1.8.9 (nf_tables)
	errs := []error{err}
	for _, p := range []*Programs{
		programs("", strings.Contains(version, "nf_tables"), run), programs("-nft", true, run), programs("-legacy", false, run),
	} {
		err := p.restore(ctx, IPv4, probe)
		if err == nil {
			return p, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no iptables works here: %w", errors.Join(errs...))
}

// probe makes a chain and removes it again: reading alone succeeds also where the kernel lacks what is needed to write.
const probe = "*mangle\n:KIPVS-PROBE - [0:0]\n-X KIPVS-PROBE\nCOMMIT\n"

func programs(variant string, nft bool, run runner) *Programs {
	return &Programs{variant: variant, nft: nft, run: run, standing: map[Family]string{}, jumps: map[Family][]Jump{}}
}

// other is the iptables that this node does not use.
func (p *Programs) other() *Programs {
	if p.nft {
		return programs("-legacy", false, p.run)
	}
	return programs("-nft", true, p.run)
}

// Close closes what Trace opened. The rules stay.
func (p *Programs) Close() error { return p.tracer.close() }

// Variant returns the iptables in use: "nft" or "legacy".
func (p *Programs) Variant() string {
	if p.nft {
		return "nft"
	}
	return "legacy"
}

// HasRandomFully says whether MASQUERADE takes --random-fully, which iptables does since 1.6.2.
func (p *Programs) HasRandomFully() (bool, error) {
	tables, err := iptables.New(iptables.Path(p.program(IPv4, "")))
	if err != nil {
		return false, fmt.Errorf("version of iptables: %w", err)
	}
	return tables.HasRandomFully(), nil
}

// Ensure is part of Kernel. Chains and the jumps that are missing are one transaction in each table: there is no moment in
// which packets meet half of it.
func (p *Programs) Ensure(ctx context.Context, r Ruleset) error {
	saved, err := p.save(ctx, r.Family)
	if err != nil {
		return err
	}
	found, err := parse(saved)
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(r.Jumps), func(j Jump) bool {
		_, isMisplaced := j.place(saved)
		return found.has(j) && !isMisplaced
	})
	if err := p.restore(ctx, r.Family, r.restore(missing, saved)); err != nil {
		return err
	}
	if err := p.restore(ctx, r.Family, found.without(r).removal()); err != nil {
		return err
	}
	if !p.ensured(r.Family) { // what an earlier run left in the other iptables
		if err := p.other().removeReadable(ctx, r.Family); err != nil {
			return err
		}
	}
	// What somebody removed meanwhile would be missing for good if this were taken for what is to stand.
	left, err := p.found(ctx, r.Family)
	if err != nil {
		return err
	}
	if err := left.lacks(r); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.standing[r.Family], p.jumps[r.Family] = left.String(), r.Jumps
	return nil
}

func (p *Programs) ensured(f Family) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.standing[f] != ""
}

// Stands is part of Kernel.
func (p *Programs) Stands(ctx context.Context, f Family) (bool, error) {
	saved, err := p.save(ctx, f)
	if err != nil {
		return false, err
	}
	found, err := parse(saved)
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	misplaced := slices.ContainsFunc(p.jumps[f], func(j Jump) bool { _, is := j.place(saved); return is })
	return found.String() == p.standing[f] && !misplaced, nil
}

// Remove is part of Kernel.
func (p *Programs) Remove(ctx context.Context, f Family) error {
	found, err := p.found(ctx, f)
	if err != nil {
		return err
	}
	return errors.Join(p.restore(ctx, f, found.removal()), p.other().removeReadable(ctx, f))
}

// removeReadable removes what can be seen of ours. What cannot is not there: the kernel or the node lacks this iptables.
func (p *Programs) removeReadable(ctx context.Context, f Family) error {
	found, err := p.found(ctx, f)
	if err != nil {
		return ctx.Err()
	}
	return p.restore(ctx, f, found.removal())
}

// found reads what of ours stands.
func (p *Programs) found(ctx context.Context, f Family) (ours, error) {
	saved, err := p.save(ctx, f)
	if err != nil {
		return nil, err
	}
	return parse(saved)
}

func (p *Programs) save(ctx context.Context, f Family) (string, error) {
	return p.run(ctx, "", p.program(f, "-save"))
}

func (p *Programs) restore(ctx context.Context, f Family, text string) error {
	if text == "" {
		return nil
	}
	_, err := p.run(ctx, text, p.program(f, "-restore"), "--noflush", "--wait", lockWait)
	return err
}

func (p *Programs) program(f Family, suffix string) string {
	if f == IPv6 {
		return "ip6tables" + p.variant + suffix
	}
	return "iptables" + p.variant + suffix
}

// run runs a program, and kills it when the context ends. Its complaint becomes the error, with the rule that it names by
// its line.
func run(ctx context.Context, stdin, name string, arg ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, name, arg...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &complaint
	cmd.WaitDelay = waitDelay
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil { // or it would only say that it was killed
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return "", fmt.Errorf("%s: %w%s", strings.Join(append([]string{name}, arg...), " "), err, explain(complaint.String(), stdin))
	}
	return out.String(), nil
}
