package ipset

import (
	"errors"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFakeString(t *testing.T) {
	f := NewFake()
	if err := errors.Join(f.Create(t.Context(), plain), f.Create(t.Context(), marked), f.Create(t.Context(), networks)); err != nil {
		t.Fatal(err)
	}
	errs := f.Do(t.Context(), []Op{
		{Set: marked, Member: member(300), Mark: Mark{Value: 0x8000, Mask: 0xc000}},
		{Set: marked, Member: member(2), Mark: Mark{Value: 7, Mask: 0xffffffff}},
		{Set: marked, Member: member(1)},
		{Set: networks, Member: Member{Other: netip.MustParsePrefix("10.96.0.0/12")}},
		{Set: networks, Member: Member{Other: netip.MustParsePrefix("192.0.2.7/32")}},
	})
	if errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	const want = `create KIPVS-A hash:ip,port family inet maxelem 16777216 skbinfo
add KIPVS-A 10.0.0.1,tcp:1
add KIPVS-A 10.0.0.2,tcp:2 skbmark 0x7
add KIPVS-A 10.0.1.44,tcp:300 skbmark 0x8000/0xc000
create KIPVS-B hash:ip,port,net family inet6 maxelem 16777216
create KIPVS-D hash:net family inet maxelem 16777216
add KIPVS-D 10.96.0.0/12
add KIPVS-D 192.0.2.7
`
	if diff := cmp.Diff(want, f.String()); diff != "" {
		t.Errorf("String (-want +got):\n%s", diff)
	}
	if f.Ops() != 5 || f.Reads() != 0 {
		t.Errorf("%d ops and %d reads, want 5 and 0", f.Ops(), f.Reads())
	}
}

func TestFakeFromManyGoroutines(t *testing.T) {
	f := NewFake()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 50 {
				err := errors.Join(f.Create(t.Context(), marked), errors.Join(f.Do(t.Context(), []Op{{Set: marked, Member: member(i*50 + n)}})...))
				if _, readErr := f.Read(t.Context(), marked); err != nil || readErr != nil {
					t.Error(err, readErr)
				}
				_ = f.String()
			}
		})
	}
	wg.Wait()
	if f.Ops() != 400 || f.Reads() != 400 {
		t.Errorf("%d ops and %d reads, want 400 each", f.Ops(), f.Reads())
	}
}
