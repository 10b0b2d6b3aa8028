package ipvs

import (
	"errors"
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
