package ipvs

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
)

// encodeOp returns the payload of an op's message.
func encodeOp(op Op) []byte {
	var b netlink.Batch
	appendOp(&b, 30, op)
	return b.Bytes()[unix.SizeofNlMsghdr:]
}

func reencode(key Key, server Server) (Key, Server, error) {
	return parseService(encodeOp(Op{Verb: AddServer, Key: key, Server: server}))
}

func drawAddr(t *rapid.T, v6 bool) netip.Addr {
	if v6 {
		return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "IPv6")))
	}
	return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "IPv4")))
}

// What is encoded reads back the same.
func TestEncodeReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v6 := rapid.Bool().Draw(t, "v6")
		key := AddrKey(inet.Protocol(rapid.Byte().Draw(t, "proto")), netip.AddrPortFrom(drawAddr(t, v6), rapid.Uint16().Draw(t, "port")))
		if rapid.Bool().Draw(t, "marked") {
			key = MarkKey(rapid.Uint32Min(1).Draw(t, "mark"), key.Addr)
		}
		op := Op{
			Verb: AddServer, Key: key,
			Server: Server{
				Scheduler: rapid.StringMatching(`[a-z]{1,15}`).Draw(t, "scheduler"),
				Timeout:   rapid.Uint32().Draw(t, "timeout"),
				Flags:     Flags(rapid.Uint32().Draw(t, "flags")) &^ (flagPersist | flagHashed),
			},
			Addr: netip.AddrPortFrom(drawAddr(t, rapid.Bool().Draw(t, "real v6")), rapid.Uint16().Draw(t, "real port")),
			Real: Real{Weight: rapid.Uint32().Draw(t, "weight")},
		}
		gotKey, got, err := reencode(op.Key, op.Server)
		if err != nil || gotKey != op.Key || got != op.Server {
			t.Errorf("%v %v became %v %v, %v", op.Key, op.Server, gotKey, got, err)
		}
		op.Verb = AddReal
		at, state, err := parseDest(encodeOp(op), 0)
		if err != nil || at != op.Addr || state.Real != op.Real {
			t.Errorf("%v %v became %v %v, %v", op.Addr, op.Real, at, state, err)
		}
	})
}

func TestEncodeAllocatesNothing(t *testing.T) {
	var b netlink.Batch
	encode := func() {
		b.Reset()
		for _, op := range everyKind {
			appendOp(&b, 30, op)
		}
	}
	encode()
	if n := testing.AllocsPerRun(100, encode); n != 0 {
		t.Errorf("%v allocations for %d ops, want 0", n, len(everyKind))
	}
}

func BenchmarkEncodeReal(b *testing.B) {
	var batch netlink.Batch
	op := Op{Verb: AddReal, Key: web, Addr: pod4, Real: Real{Weight: 1}}
	b.ReportAllocs()
	for b.Loop() {
		batch.Reset()
		appendOp(&batch, 30, op)
	}
}
