package main

import (
	"context"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/ipvsmode"
)

// A willing kernel does what it is asked at once and keeps nothing, so that a node's memory and CPU time are the program's.
func willing() ipvsmode.Kernel {
	return ipvsmode.Kernel{
		IPVS: willingTable{}, Sets: willingSets{}, Steering: steering.NewFake(), Rules: new(iptables.Fake), Sysctl: sysctl.NewFake(), Flows: new(conntrack.Fake),
	}
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
