package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the CPU time of this process, the kernel's work for it included.
func cpuTime() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// weigh returns the bytes of the heap that are in use.
func weigh() uint64 {
	runtime.GC()
	runtime.GC() // what has a finalizer, or was swept late
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// touch makes the system give this process the memory that it is going to need. In user-mode Linux the first touch of a page
// is dear: all that a Go program does for the first time seems slow, and the floors, whose operations are there before they
// begin, do not.
func touch() {
	const pages, pieces = 1 << 15, 2
	memory := make([][]byte, 0, pages/pieces)
	for range cap(memory) {
		piece := make([]byte, pieces*os.Getpagesize())
		for at := 0; at < len(piece); at += os.Getpagesize() {
			piece[at] = 1
		}
		memory = append(memory, piece)
	}
	runtime.KeepAlive(memory)
	clear(memory)
	runtime.GC()
}

// residentMiB is the memory of a process now, and at most so far.
func residentMiB(pid int) (now, peak float64, err error) {
	file := fmt.Sprintf("/proc/%d/status", pid)
	now, err = field(file, "VmRSS:", 0)
	if err != nil {
		return 0, 0, err
	}
	peak, err = field(file, "VmHWM:", 0)
	return now / 1024, peak / 1024, err
}

// begun is how many processes and threads the kernel has begun since it booted, without the threads of this process.
func begun() (float64, error) {
	all, err := field("/proc/stat", "processes", 0)
	if err != nil {
		return 0, err
	}
	threads, err := field("/proc/self/status", "Threads:", 0)
	return all - threads, err
}

// wakeups is how often a thread of this process waited and was woken: of all that it costs to do nothing the one thing that can be
// counted exactly.
func wakeups() (float64, error) {
	threads, err := filepath.Glob("/proc/self/task/*/status")
	sum := 0.0
	for _, status := range threads {
		n, e := field(status, "voluntary_ctxt_switches:", 0)
		sum, err = sum+n, errors.Join(err, e)
	}
	return sum, err
}

// unused is the seconds for which the CPU of the machine had nothing to do since the boot.
func unused() (float64, error) {
	const ticks = 100 // a second: USER_HZ
	n, err := field("/proc/stat", "cpu", 3)
	return n / ticks, err
}

// field returns the i-th number after a word at the beginning of a line.
func field(file, word string, i int) (float64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > i+1 && fields[0] == word {
			return strconv.ParseFloat(fields[i+1], 64)
		}
	}
	return 0, fmt.Errorf("%s has no line %q", file, word)
}
