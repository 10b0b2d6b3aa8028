package ipvsmode

import (
	"context"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/ipvs/sysctl"
)

// FakeKernel returns fakes in the place of the kernels, with nothing in them but what the virtual servers' has.
func FakeKernel(table ipvs.Kernel) Kernel {
	return Kernel{
		IPVS: table, Sets: ipset.NewFake(), Steering: steering.NewFake(), Rules: new(iptables.Fake), Sysctl: sysctl.NewFake(), Flows: new(conntrack.Fake),
	}
}

// WillingKernel returns fakes of which those with an object for each frontend or endpoint do what they are asked at once, and keep
// nothing: what is measured is what the program itself costs.
func WillingKernel() Kernel {
	k := FakeKernel(willingTable{})
	k.Sets = willingSets{}
	return k
}

type willingTable struct{ ipvs.Kernel }

func (willingTable) Read(context.Context) (ipvs.Table, error) { return ipvs.Table{}, nil }
func (willingTable) Do(context.Context, []ipvs.Op) []error    { return nil }
func (willingTable) ReadServer(context.Context, ipvs.Key) (ipvs.Entry, error) {
	return ipvs.Entry{}, nil
}

type willingSets struct{ ipset.Kernel }

func (willingSets) Names(context.Context) ([]string, error)                       { return nil, nil }
func (willingSets) Create(context.Context, ipset.Set) error                       { return nil }
func (willingSets) Do(context.Context, []ipset.Op) []error                        { return nil }
func (willingSets) Differ(context.Context, []ipset.Set) (map[string]error, error) { return nil, nil }
func (willingSets) Read(context.Context, ipset.Set) (map[ipset.Member]ipset.Mark, error) {
	return nil, nil
}
