package main

import (
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// FuzzFlags: whatever a command line says, it is refused with reasons, or everything that is made of it is usable.
func FuzzFlags(f *testing.F) {
	for _, args := range []string{
		"", "--mode=ipvs\n--cluster-cidr=10.244.0.0/16,fd00::/48", "--cluster-cidr=10.0.0.0/8,10.1.0.0/8,,/", "--nodeport-addresses=primary",
		"--nodeport-addresses=primary,10.0.0.0/8", "--detect-local-mode=InterfaceNamePrefix\n--pod-interface-name-prefix=cali",
		"--detect-local-mode=BridgeInterface", "--iptables-masquerade-bit=31", "--iptables-masquerade-bit=-1", "--ipvs-sync-period=-1s",
		"--drain-limit=9999999h", "--healthz-bind-address=[::]:10256", "--metrics-bind-address=:", "--ipvs-scheduler=\x00", "--vip-mode=bind", "x",
	} {
		f.Add(args)
	}
	f.Fuzz(func(t *testing.T, args string) {
		var o options
		fs := pflag.NewFlagSet("kube-ipvs", pflag.ContinueOnError)
		fs.SetOutput(io.Discard)
		fs.Usage = func() {}
		o.register(fs)
		if fs.Parse(strings.Split(args, "\n")) != nil || o.validate() != nil {
			return
		}
		d := o.detector([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")})
		if len(d.Interface) > 16 { // 15 characters and a "+" behind them
			t.Errorf("interface %q", d.Interface)
		}
		families := map[bool]bool{}
		for _, p := range d.Prefixes {
			if families[p.Addr().Is4()] || p != p.Masked() {
				t.Errorf("ranges %v", d.Prefixes)
			}
			families[p.Addr().Is4()] = true
		}
		if o.drainLimit <= 0 || o.syncPeriod <= 0 || o.masqueradeBit < 0 || o.masqueradeBit > 31 || !slices.Contains(schedulers, o.scheduler) {
			t.Errorf("%+v", o)
		}
	})
}
