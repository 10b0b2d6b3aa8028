//go:build kernel

package kernel

import (
	"testing"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/steering"
)

// What an object costs alone, and as one of many, in each of the kernel's tables that has one for each frontend or endpoint: a batch
// must cost a fraction, or it would not be worth its code. Times are of one boot; only their ratio means something.
//
//	go test -tags kernel -run '^$' -bench . -exec "$PWD/.bin/inkernel" ./test/kernel

func BenchmarkIPSet(b *testing.B) {
	k := ipsetOpen(b)
	s := ipset.Set{Name: "KIPVS-COST", Type: ipset.HashIPPort, Family: inet.IPv4, Marks: true}
	ipsetCreate(b, k, s)
	adds := ipsetAdds(s, 20_000)
	benchmarkBatch(b, adds, func(op *ipset.Op) { op.Verb = ipset.Del }, func(ops ...ipset.Op) { ipsetDo(b, k, ops...) })
}

func BenchmarkSteering(b *testing.B) {
	k := steerOpenNode(b)
	steerDo(b, k, steering.Op{Item: steering.Item{Kind: steering.Link}})
	adds := steerAdd(steering.Local, 10_000)
	benchmarkBatch(b, adds, func(op *steering.Op) { op.Verb = steering.Del }, func(ops ...steering.Op) { steerDo(b, k, ops...) })
}

func BenchmarkIPVS(b *testing.B) {
	c := openIPVS(b)
	adds := ipvsAdds(10_000, 0)
	benchmarkBatch(b, adds, func(op *ipvs.Op) { *op = del(op.Key) }, func(ops ...ipvs.Op) { mustDo(b, c, ops) })
}

// benchmarkBatch adds and removes objects one by one, then all together.
func benchmarkBatch[Op any](b *testing.B, adds []Op, remove func(*Op), do func(...Op)) {
	removes := append([]Op(nil), adds...)
	for i := range removes {
		remove(&removes[i])
	}
	b.Run("alone", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			do(adds[i%len(adds)])
			do(removes[i%len(removes)])
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N), "ns/change")
	})
	b.Run("many", func(b *testing.B) {
		for b.Loop() {
			do(adds...)
			do(removes...)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N*len(adds)), "ns/change")
	})
}
