package ipvsmode

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/ipvs/sysctl"
)

// Dry returns a kernel that is read and never written: each operation is noted instead, as an operator would type it, and
// succeeds. A loop on it does all that it would do on the kernel itself, but for a kernel that refuses an operation.
//
// Tracked flows are left out: what becomes of them follows from the rest. Rules are noted by the commands that restore
// the chains that differ, so rules that are as desired are no operation.
func Dry(k Kernel, note func(string)) Kernel {
	return Kernel{
		IPVS: dryIPVS{k.IPVS, note}, Sets: dryIPSet{k.Sets, note, map[string]struct{}{}}, Steering: drySteering{k.Steering, note}, Rules: dryRules{k.Rules, note, map[string]struct{}{}},
		Sysctl: drySysctl{k.Sysctl, note, map[string]string{}}, Flows: dryFlows{},
	}
}

// noteAll notes operations.
func noteAll[Op fmt.Stringer](note func(string), list []Op) {
	for _, op := range list {
		note(op.String())
	}
}

type dryIPVS struct {
	ipvs.Kernel
	note func(string)
}

// Do implements ipvs.Kernel.
func (d dryIPVS) Do(_ context.Context, list []ipvs.Op) []error {
	noteAll(d.note, list)
	return nil
}

type drySteering struct {
	steering.Kernel
	note func(string)
}

// Do implements steering.Kernel.
func (d drySteering) Do(_ context.Context, list []steering.Op) []error {
	for _, op := range list {
		d.note(typed(op))
	}
	return nil
}

// typed returns the command of an op with all that makes its object owned and complete, which an Op leaves out for brevity.
func typed(op steering.Op) string {
	text := op.String()
	if op.Verb == steering.Del {
		return text
	}
	switch op.Item.Kind {
	case steering.Link:
		// Two commands: in one, the link would be up, and have an address, before the mode counts.
		return text + "\nip link set " + steering.LinkName + " addrgenmode none arp off\nip link set " + steering.LinkName + " up"
	case steering.Refuse, steering.Local, steering.Divert, steering.LastRoute:
		return fmt.Sprintf("%s proto %d", text, steering.RouteProtocol)
	case steering.Policy:
		return fmt.Sprintf("%s protocol %d", text, steering.RouteProtocol)
	}
	return text
}

type dryIPSet struct {
	ipset.Kernel
	note func(string)
	gone map[string]struct{} // sets that were destroyed
}

// Create implements ipset.Kernel.
func (d dryIPSet) Create(ctx context.Context, s ipset.Set) error {
	if _, gone := d.gone[s.Name]; !gone {
		differ, err := d.Differ(ctx, []ipset.Set{s})
		if err != nil {
			return err
		}
		if err := differ[s.Name]; err != nil {
			return err
		}
	}
	d.note(setOp{set: s}.String())
	return nil
}

// Names implements ipset.Kernel.
func (d dryIPSet) Names(ctx context.Context) ([]string, error) {
	names, err := d.Kernel.Names(ctx)
	return slices.DeleteFunc(names, func(name string) bool { _, gone := d.gone[name]; return gone }), err
}

// Destroy implements ipset.Kernel.
func (d dryIPSet) Destroy(_ context.Context, name string) error {
	d.gone[name] = struct{}{}
	d.note(setOp{destroy: true, set: ipset.Set{Name: name}}.String())
	return nil
}

// Do implements ipset.Kernel. A Test is a read.
func (d dryIPSet) Do(ctx context.Context, list []ipset.Op) []error {
	errs := make([]error, len(list))
	for i, op := range list {
		switch {
		case op.Verb == ipset.Test:
			errs[i] = errors.Join(d.Kernel.Do(ctx, []ipset.Op{op})...)
		case op.Verb == ipset.Add && op.Set.Marks: // or it would not change the mark of an existing member
			d.note(op.String() + " -exist")
		default:
			d.note(op.String())
		}
	}
	return errs
}

type drySysctl struct {
	sysctl.Kernel
	note func(string)
	made map[string]string // settings that were made
}

// Read implements sysctl.Kernel. A setting that was made has its new value: the loop reads settings again when it has made the link.
func (d drySysctl) Read(ctx context.Context, names []string) (map[string]string, error) {
	values, err := d.Kernel.Read(ctx, names)
	for _, name := range names {
		if value, made := d.made[name]; made {
			values[name] = value
		}
	}
	return values, err
}

// Do implements sysctl.Kernel. A setting that has its value is no operation, and one that does not exist fails.
func (d drySysctl) Do(ctx context.Context, list []sysctl.Setting) []error {
	errs := make([]error, len(list))
	for i, s := range list {
		now, err := d.Read(ctx, []string{s.Name})
		if errs[i] = err; err == nil && now[s.Name] != sysctl.Normal(s.Value) {
			d.made[s.Name] = sysctl.Normal(s.Value)
			d.note(s.String())
		}
	}
	return errs
}

type dryRules struct {
	iptables.Kernel
	note func(string)
	gone map[string]struct{} // rules of kube-proxy that were removed
}

// KubeProxy implements iptables.Kernel.
func (d dryRules) KubeProxy(ctx context.Context, f inet.Family) ([]iptables.Removal, error) {
	steps, err := d.Kernel.KubeProxy(ctx, f)
	var out []iptables.Removal
	for _, step := range steps {
		if _, gone := d.gone[step.Name]; !gone {
			out = append(out, iptables.Step(step.Name, func(context.Context) error {
				d.gone[step.Name] = struct{}{}
				d.note("# remove " + step.Name)
				return nil
			}))
		}
	}
	return out, err
}

// Ensure implements iptables.Kernel.
func (d dryRules) Ensure(ctx context.Context, r iptables.Ruleset) error {
	repairs, err := d.Repairs(ctx, r)
	noteAll(d.note, repairs)
	return err
}

// Remove implements iptables.Kernel.
func (d dryRules) Remove(_ context.Context, f inet.Family) error {
	d.note(fmt.Sprintf("# remove all chains of kube-ipvs, and jumps to them, from ip%stables", map[inet.Family]string{inet.IPv6: "6"}[f]))
	return nil
}

type dryFlows struct{}

// Delete implements conntrack.Kernel.
func (dryFlows) Delete(context.Context, []conntrack.Frontend) (int, error) { return 0, nil }
