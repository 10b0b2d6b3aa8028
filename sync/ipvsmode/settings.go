package ipvsmode

import (
	"context"
	"errors"
	"iter"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/reconcile"
)

func (d *Dataplane) settingsLayer() *reconcile.TableLayer[string, string, sysctl.Setting] {
	return &reconcile.TableLayer[string, string, sysctl.Setting]{
		Title: "settings", Table: d.settings, Compare: strings.Compare, Count: d.count.layer("settings"),
		Read: func(ctx context.Context) (iter.Seq2[string, string], error) {
			values, err := d.readSettings(ctx)
			return maps.All(values), err
		},
		Do: d.cfg.Sysctl.Do, MayAdd: d.maySet,
		Add: func(name, value string, _ bool) sysctl.Setting { return sysctl.Setting{Name: name, Value: value} },
	}
}

// readSettings reads the kept settings, without those that do not exist: writing one reports that.
func (d *Dataplane) readSettings(ctx context.Context) (map[string]string, error) {
	var names []string
	for name := range d.settings.Wants() {
		names = append(names, name)
	}
	values, err := d.cfg.Sysctl.Read(ctx, names)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return values, err
}

// forward adds the settings of a family that this node has, and that has a frontend. They are kept from then on.
func (d *Dataplane) forward(fe *plan.Frontend) {
	family := inet.FamilyOf(fe.Addr)
	if _, kept := d.forwarding[family]; kept || !d.tables.has(fe.Addr) {
		return
	}
	d.forwarding[family] = struct{}{}
	for _, setting := range d.cfg.Forwarding[family] {
		d.settings.Want(setting.Name, setting.Value)
	}
}

// linkIPv6 is the setting that disables IPv6 on the link, inherited from net/ipv6/conf/default.
const linkIPv6 = "net/ipv6/conf/" + steering.LinkName + "/disable_ipv6"

// admitIPv6 enables IPv6 on the link once the node has addresses of it: then it is meant to be used.
func (d *Dataplane) admitIPv6(before, now []netip.Addr) {
	had, has := slices.ContainsFunc(before, netip.Addr.Is6), slices.ContainsFunc(now, netip.Addr.Is6)
	if had || !has || d.fitness[inet.IPv6] == nil {
		return
	}
	if _, wanted := d.settings.Wanted(linkIPv6); !wanted {
		d.settings.Want(linkIPv6, "0")
		d.settingLayer.Invalidate()
	}
	d.layers.Retry() // operations that failed without it may work now
}

// withhold finds the pending settings that must not be written for now.
func (d *Dataplane) withhold(ctx context.Context) {
	d.withheld = nil
	for o := range d.settings.Missing() {
		if err := d.cfg.Withhold(ctx, sysctl.Setting{Name: o.Key(), Value: o.Wanted()}); err != nil {
			if d.withheld == nil {
				d.withheld = map[string]error{}
			}
			d.withheld[o.Key()] = err
		}
	}
}

// maySet reports whether a setting may be written: it is not withheld, and its link exists.
func (d *Dataplane) maySet(name string) bool {
	_, known := d.settings.Known(name)
	return d.withheld[name] == nil && (known || name != linkIPv6)
}

func (d *Dataplane) settingsDiffer(ctx context.Context) (bool, error) {
	values, err := d.readSettings(ctx)
	differ := err != nil
	for name, value := range values {
		known, ok := d.settings.Known(name)
		differ = differ || !ok || known != value
	}
	if differ {
		d.settingLayer.Invalidate()
	}
	return differ, nil
}
