package main

import (
	"context"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"k8s.io/utils/cpuset"

	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/test/wire"
)

// stallFor is how long a process looks for the kernel's longest stall: IPVS estimates once in it.
const stallFor = 2100 * time.Millisecond

// stall measures for how long IPVS's estimates keep the CPU from everything else: before Linux 6.2 a timer makes them, which no process
// interrupts. Nobody uses the virtual and real servers meanwhile. Those of the trials that wait their turn are not estimated.
func stall(ctx context.Context, s size) (measurement, error) {
	all, err := record(ctx, newMemory(s))
	if err != nil {
		return measurement{}, err
	}
	kernel, err := wire.Open(ctx)
	if err != nil {
		return measurement{}, err
	}
	if _, err = all.replay(ctx, kernel, false); err == nil {
		err = estimate(ctx, kernel.Sysctl, false)
	}
	if err != nil {
		return measurement{}, errors.Join(err, kernel.Close())
	}
	cpus, err := possible()
	if err != nil {
		return measurement{}, errors.Join(err, kernel.Close())
	}
	servers := all.servers()
	runtime.GC()
	debug.SetGCPercent(-1)
	turn := func(ctx context.Context) (figures, error) {
		without := longest(stallFor)
		if err := estimate(ctx, kernel.Sysctl, true); err != nil {
			return nil, err
		}
		with := longest(stallFor)
		f := figures{"servers": float64(servers), "cpus": float64(cpus.Size()), "with": with.Seconds(), "without": without.Seconds()}
		return f, estimate(ctx, kernel.Sysctl, false)
	}
	return measurement{turn, kernel.Close}, nil
}

// possible returns the CPUs that the machine could have.
func possible() (cpuset.CPUSet, error) {
	text, err := os.ReadFile("/sys/devices/system/cpu/possible")
	if err != nil {
		return cpuset.New(), err
	}
	return cpuset.Parse(strings.TrimSpace(string(text)))
}

// longest returns the longest time for which this process, which is always busy, had no CPU.
func longest(during time.Duration) (gap time.Duration) {
	begin := time.Now()
	for last := begin; last.Sub(begin) < during; {
		now := time.Now()
		gap, last = max(gap, now.Sub(last)), now
	}
	return gap
}

// servers counts the virtual and real servers that the tape adds.
func (t tape) servers() (n int) {
	for _, w := range t.writes {
		for _, op := range w.ipvs {
			if op.Verb == ipvs.AddServer || op.Verb == ipvs.AddReal {
				n++
			}
		}
	}
	return n
}

// estimate lets IPVS estimate rates, or not.
func estimate(ctx context.Context, settings sysctl.Kernel, on bool) error {
	setting := sysctl.Setting{Name: ipvs.RunEstimation, Value: "0"}
	if on {
		setting.Value = "1"
	}
	return errors.Join(settings.Do(ctx, []sysctl.Setting{setting})...)
}
