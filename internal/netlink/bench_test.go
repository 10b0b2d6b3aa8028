package netlink

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func BenchmarkEncode(b *testing.B) {
	b.ReportAllocs()
	var batch Batch
	for b.Loop() {
		batch.Reset()
		batch.BeginGeneric(20, 0, 5, 1)
		nest := batch.Nest(1)
		batch.Uint16(1, unix.AF_INET)
		batch.Uint16(2, 6)
		batch.Addr(3, sample.V4)
		batch.Uint16BE(4, 80)
		batch.Unnest(nest)
		nest = batch.Nest(2)
		batch.Addr(1, sample.V4)
		batch.Uint16BE(2, 8080)
		batch.Uint32(3, 0)
		batch.Uint32(4, 1)
		batch.Unnest(nest)
		batch.End()
	}
}

// BenchmarkDo is user space, the system call and the kernel's walk over messages that it only acknowledges.
func BenchmarkDo(b *testing.B) {
	c, err := Dial(unix.NETLINK_GENERIC)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	const size = 1_000
	batch := noops(size)
	for b.Loop() {
		if errs := c.Do(b.Context(), batch); errs != nil {
			b.Fatal(errors.Join(errs...))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/message")
}
