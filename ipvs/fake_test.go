package ipvs

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFakeCounts(t *testing.T) {
	var f Fake
	mustDo(t, &f, everyKind...)
	wantRead(t, &f, f.Table().String())
	if _, err := f.ReadServer(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	want := Calls{Do: 1, Ops: len(everyKind), Read: 1, ReadServer: 1}
	if diff := cmp.Diff(want, f.Calls()); diff != "" {
		t.Errorf("Calls (-want +got):\n%s", diff)
	}
}

// A caller that changes what it was given does not change the table.
func TestFakeGivesCopies(t *testing.T) {
	var f Fake
	mustDo(t, &f, everyKind...)
	want := f.Table().String()
	read, err := f.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entry, err := f.ReadServer(t.Context(), web)
	if err != nil {
		t.Fatal(err)
	}
	clear(entry.Reals)
	for _, table := range []Table{read, f.Table()} {
		clear(table[web].Reals)
		delete(table, dns)
	}
	wantRead(t, &f, want)
}

func TestFakeConnections(t *testing.T) {
	var f Fake
	if err := f.SetConnections(RealKeyOf(web, pod4), 1, 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without server: %v, want os.ErrNotExist", err)
	}
	mustDo(t, &f, Op{Verb: AddServer, Key: web, Server: rr})
	if err := f.SetConnections(RealKeyOf(web, pod4), 1, 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without real server: %v, want os.ErrNotExist", err)
	}
	mustDo(t, &f, Op{Verb: AddReal, Key: web, Addr: pod4, Real: Real{Weight: 1}})
	if err := f.SetConnections(RealKeyOf(web, pod4), 3, 2); err != nil {
		t.Fatal(err)
	}
	mustDo(t, &f, Op{Verb: SetReal, Key: web, Addr: pod4})
	wantRead(t, &f, "tcp 10.96.0.10:80 rr\n  -> 10.244.1.2:8080 w0 active 3 inactive 2\n")
}

func TestFakeByMany(t *testing.T) {
	var f Fake
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			f.Do(t.Context(), everyKind)
			_, _ = f.Read(t.Context())
			_, _ = f.ReadServer(t.Context(), web)
			_ = f.SetConnections(RealKeyOf(web, pod4), 1, 1)
			_ = f.Table().String()
		})
	}
	all.Wait()
	if got := f.Calls().Ops; got != 8*len(everyKind) {
		t.Errorf("%d ops counted, want %d", got, 8*len(everyKind))
	}
}

func TestFlaky(t *testing.T) {
	const rounds = 2_000
	var f Fake
	flaky := &Flaky{Kernel: &f, Rate: 0.1, Rand: rand.New(rand.NewPCG(1, 2))}
	op := Op{Verb: DelServer, Key: web} // always well, were it not for Flaky
	var failedOps, failedReads int
	for range rounds {
		if errs := flaky.Do(t.Context(), []Op{op, op}); errs != nil {
			for _, err := range errs {
				if err != nil && !errors.Is(err, ErrInjected) {
					t.Fatal(err)
				}
			}
			failedOps++
		}
		if _, err := flaky.Read(t.Context()); errors.Is(err, ErrInjected) {
			failedReads++
		}
	}
	if want := 0.19 * rounds; float64(failedOps) < 0.8*want || float64(failedOps) > 1.2*want {
		t.Errorf("%d calls of Do failed, want about %v", failedOps, want)
	}
	if want := 0.1 * rounds; float64(failedReads) < 0.8*want || float64(failedReads) > 1.2*want {
		t.Errorf("%d reads failed, want about %v", failedReads, want)
	}
	// Half of the ops that failed were carried out.
	if got, want := f.Calls().Ops, int(0.95*2*rounds); got < want*98/100 || got > want*102/100 {
		t.Errorf("%d ops carried out, want about %d", got, want)
	}
}

func TestFlakyRates(t *testing.T) {
	var f Fake
	random := rand.New(rand.NewPCG(1, 2))
	never := &Flaky{Kernel: &f, Rand: random}
	if errs := never.Do(t.Context(), everyKind); errs != nil {
		t.Errorf("rate 0: %v", errors.Join(errs...))
	}
	// The kernel's own errors come through, at their op.
	errs := never.Do(t.Context(), []Op{{Verb: DelServer, Key: dns}, everyKind[0]})
	if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], os.ErrExist) {
		t.Errorf("rate 0, a server twice: %v", errs)
	}
	always := &Flaky{Kernel: &f, Rate: 1, Rand: random}
	for i, err := range always.Do(t.Context(), everyKind) {
		if !errors.Is(err, ErrInjected) {
			t.Errorf("rate 1, op %d: %v, want ErrInjected", i, err)
		}
	}
	if _, err := always.ReadServer(t.Context(), web); !errors.Is(err, ErrInjected) {
		t.Errorf("rate 1, ReadServer: %v, want ErrInjected", err)
	}
}
