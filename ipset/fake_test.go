package ipset

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFakeString(t *testing.T) {
	f := NewFake()
	if err := errors.Join(f.Create(t.Context(), plain), f.Create(t.Context(), marked)); err != nil {
		t.Fatal(err)
	}
	errs := f.Do(t.Context(), []Op{
		{Set: marked, Member: member(300), Mark: Mark{Value: 0x8000, Mask: 0xc000}},
		{Set: marked, Member: member(2), Mark: Mark{Value: 7, Mask: 0xffffffff}},
		{Set: marked, Member: member(1)},
	})
	if errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	const want = `create KIPVS-A hash:ip,port family inet maxelem 16777216 skbinfo
add KIPVS-A 10.0.0.1,tcp:1
add KIPVS-A 10.0.0.2,tcp:2 skbmark 0x7
add KIPVS-A 10.0.1.44,tcp:300 skbmark 0x8000/0xc000
create KIPVS-B hash:ip,port,net family inet6 maxelem 16777216
`
	if diff := cmp.Diff(want, f.String()); diff != "" {
		t.Errorf("String (-want +got):\n%s", diff)
	}
	if f.Ops() != 3 || f.Reads() != 0 {
		t.Errorf("%d ops and %d reads, want 3 and 0", f.Ops(), f.Reads())
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

// TestFlaky fails a third of everything, and retries until all is done.
func TestFlaky(t *testing.T) {
	fake := NewFake()
	k := &Flaky{Kernel: fake, Rate: 1. / 3, Rand: rand.New(rand.NewPCG(1, 2))}
	failures := 0
	until := func(do func() error) {
		for err := do(); err != nil; err = do() {
			if failures++; !errors.Is(err, ErrInjected) || failures > 1000 {
				t.Fatal(err)
			}
		}
	}
	until(func() error { return k.Create(t.Context(), marked) })
	var ops []Op
	for i := range 100 {
		ops = append(ops, Op{Set: marked, Member: member(i)})
	}
	lost := 0
	until(func() error {
		errs := k.Do(t.Context(), ops)
		lost += len(fake.sets[marked.Name].members)
		var again []Op
		for i, err := range errs {
			if err != nil {
				again = append(again, ops[i])
			}
		}
		lost -= 100 - len(again)
		ops = again
		return errors.Join(errs...)
	})
	if failures == 0 || lost <= 0 {
		t.Errorf("%d failures, of which %d were carried out all the same: want some of both", failures, lost)
	}
	until(func() error {
		members, err := k.Read(t.Context(), marked)
		if err == nil && len(members) != 100 {
			t.Errorf("%d members, want 100", len(members))
		}
		return err
	})
	until(func() error { _, err := k.Names(t.Context()); return err })
	until(func() error { return k.Destroy(t.Context(), marked.Name) })
}

func TestFlakyNever(t *testing.T) {
	k := &Flaky{Kernel: NewFake(), Rand: rand.New(rand.NewPCG(1, 2))}
	for i := range 100 {
		if err := k.Create(context.Background(), marked); err != nil {
			t.Fatal(err)
		}
		if errs := k.Do(t.Context(), []Op{{Set: marked, Member: member(i)}}); errs != nil {
			t.Fatal(errs)
		}
	}
}
