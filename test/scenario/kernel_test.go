//go:build kernel

package scenario

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/test/wire"
)

// openKernel opens the running kernel. The rules are a fake: they are a constant whatever the Services are, the packet
// tests prove them, and putting them in place takes longer than all the rest of a scenario.
func openKernel(t *testing.T) parts {
	t.Helper()
	k, err := wire.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	// The kernel takes a source address of a route only if the node has it.
	for _, a := range []string{"192.168.0.1/32", "192.168.0.2/32", "fd00:192::1/128"} {
		if out, err := exec.Command("ip", "address", "replace", a, "dev", "lo").CombinedOutput(); err != nil {
			t.Fatalf("ip address replace %s dev lo: %v: %s", a, err, out)
		}
	}
	return parts{k.IPVS, k.Sets, k.Steering, new(iptables.Fake), k.Sysctl, k.Flows}
}

// TestScenariosInTheKernel plays every scenario on the running kernel, but those that need connections: there must be the
// same as in memory. What is left over at the end must be what only others touched.
func TestScenariosInTheKernel(t *testing.T) {
	kernel := openKernel(t)
	played := 0
	for _, s := range scenarios(t) {
		if s.needsConnections() {
			continue
		}
		played++
		t.Run(s.name(), func(t *testing.T) {
			r := newRun(t, s, s.loadAll(t), kernel)
			r.trace = nil
			defer r.cleanUp()
			for i, step := range s.steps {
				r.enter(i)
				r.eventually(step.suffix)
			}
		})
	}
	t.Logf("%d scenarios", played)
}

func (s *scenario) needsConnections() bool {
	for _, step := range s.steps {
		if len(step.connections) > 0 {
			return true
		}
	}
	return false
}

// eventually waits until what is found is what is expected, and the loop says that all is well.
func (r *run) eventually(suffix string) {
	r.t.Helper()
	const limit = 30 * time.Second
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		ok, err := r.state()
		differs := ""
		if ok {
			differs = r.difference(suffix)
		}
		switch {
		case ok && differs == "":
			return
		case time.Since(start) > limit:
			r.t.Fatalf("step %q: the last attempt ended with %v; (-want +got):\n%s", suffix, err, differs)
		}
	}
}

// difference compares the sections that a step has with what is found.
func (r *run) difference(suffix string) string {
	r.t.Helper()
	out := ""
	found := r.dump()
	for _, name := range expects {
		want, there := r.find(name + suffix)
		if name == "ops" || !there && (suffix != "" || name == "ledger") {
			continue
		}
		out += cmp.Diff(plain(want), plain(found[name]))
	}
	return out
}

// cleanUp stops the loop, removes what is ours and then what was a stranger's.
func (r *run) cleanUp() {
	r.stop()
	ctx := context.Background()
	k := r.kernel
	if err := ipvsmode.Clean(ctx, ipvsmode.Kernel{IPVS: k.ipvs, Sets: k.sets, Steering: k.steering, Rules: k.rules}); err != nil {
		r.t.Errorf("clean: %v", err)
	}
	strangers := (&scenario{steps: r.steps, flags: r.flags}).strangers(r.t)
	left := k.dump(r.t, r.flags)
	if diff := cmp.Diff(strangers["ipvs"]+strangers["sets"], left["ipvs"]+left["sets"]); diff != "" {
		r.t.Errorf("left over (-want +got):\n%s", diff)
	}
	table, err := k.ipvs.Read(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	for key := range table {
		if errs := k.ipvs.Do(ctx, []ipvs.Op{{Verb: ipvs.DelServer, Key: key}}); errs != nil {
			r.t.Fatal(errs)
		}
	}
	names, err := k.sets.Names(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, name := range names {
		if err := k.sets.Destroy(ctx, name); err != nil {
			r.t.Fatal(err)
		}
	}
}
