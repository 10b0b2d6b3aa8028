// Command inkernel runs a program inside a kernel that has IPVS, and ends as the program ended.
//
//	inkernel [-timeout 11m] [-mem 2G] [-kernel auto|uml|host|qemu|icount] [-linux FOLDER] [-arch amd64] [-cpus 2] [-possible 1] [-legacy] [-net tap=NAME]
//	    [-env K=V]... PROGRAM [ARG...]
//
// It fits go test: go test -exec "$PWD/.bin/inkernel" -tags kernel ./test/...
//
// The program sees the machine's own files, its own working directory and environment, a network of its own in which
// only lo is up, an empty /run, and root's rights. Its standard output and standard error come out separately; its
// standard input is empty. What the kernel says is shown only when the kernel fails.
//
// Where the running kernel has IPVS and the caller is root, the program runs there, in namespaces of its own. Everywhere
// else it runs in user-mode Linux, which needs neither root nor KVM. With -kernel=qemu it runs in an emulated machine, slowly,
// with what user-mode Linux lacks: iptables on nft, a second CPU, and any version of Linux that Debian has. With -kernel=icount that machine has one CPU, and its clock
// counts instructions, each a nanosecond: what is measured there repeats, however busy the host. With -arch=arm64 it is an arm64 machine:
// its /usr is that of FOLDER/programs, the rest of the files are the machine's own, and this program, built for arm64, is arm64/inkernel
// beside itself.
//
// The exit status is the program's: 128+n if signal n ended it, 124 if the time was up, 125 if there was no kernel to
// run it in, 128+n if inkernel itself was told to stop by signal n.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The exit statuses that are not the program's own; the first two are those of timeout(1).
const (
	statusTime   = 124
	statusFailed = 125
	statusSignal = 128 // plus the signal's number
)

// options is what the command line asked for.
type options struct {
	timeout  time.Duration
	memory   string
	kernel   string
	linux    string // qemu's kernel, as test/linux unpacks it
	arch     string // of qemu's machine
	cpus     int    // of qemu
	possible int    // CPUs, of icount
	legacy   bool   // whether qemu's iptables are the legacy tables
	tap      string
	env      []string
	argv     []string
}

func main() {
	if dir := os.Getenv(jobVariable); dir != "" && os.Getpid() == 1 {
		if program := os.Getenv(programVariable); program != "" {
			fmt.Fprintln(os.Stderr, "inkernel: /init:", enterMachine(program))
			return // the kernel panics, which ends it
		}
		processOne(dir)
		return
	}
	status, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "inkernel:", err)
	}
	os.Exit(status)
}

// run does the whole work of the command and returns its exit status.
func run(args []string) (int, error) {
	opts, err := parse(args)
	if err != nil {
		return statusFailed, err
	}
	k, err := choose(opts)
	if err != nil {
		return statusFailed, err
	}
	// A kernel that panics aborts; its core would land in the caller's directory.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return statusFailed, fmt.Errorf("forbid core files: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), opts.timeout, errTime)
	defer cancel()
	ctx, stop := untilSignal(ctx)
	defer stop()

	s, err := newSession(k, opts)
	if err != nil {
		return statusFailed, err
	}
	end, err := s.run(ctx)
	err = errors.Join(err, s.close())
	var sig signalled
	switch {
	case errors.As(err, &sig):
		return statusSignal + int(sig.number), err
	case errors.Is(err, errTime):
		return statusTime, fmt.Errorf("%w: killed %s after %v", err, opts.argv[0], opts.timeout)
	case err != nil:
		return statusFailed, err
	}
	return end, nil
}

// errTime ends a run whose time is up.
var errTime = errors.New("time is up")

// signalled ends a run that somebody stopped.
type signalled struct{ number unix.Signal }

func (s signalled) Error() string { return "stopped by " + unix.SignalName(s.number) }

// untilSignal ends the context, with a signalled as cause, when the process is asked to stop. go test asks with SIGQUIT.
func untilSignal(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	go func() {
		select {
		case s := <-signals:
			cancel(signalled{s.(unix.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}

// parse reads the command line. Flags end at the program.
func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("inkernel", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: inkernel [FLAG...] PROGRAM [ARG...]")
		flags.PrintDefaults()
	}
	// One minute more than go test gives a test binary by default, so that the binary can still say what hung.
	flags.DurationVar(&o.timeout, "timeout", 11*time.Minute, "kill everything after `duration`, which includes the boot")
	flags.StringVar(&o.memory, "mem", "2G", "memory of a kernel of its own; only what is touched is taken")
	flags.StringVar(&o.kernel, "kernel", "auto", "`where` to run: uml, host, qemu, icount (these need root; icount is qemu with a clock that counts instructions), or auto: host if it has IPVS, else uml")
	flags.StringVar(&o.linux, "linux", linuxFolder(), "the `folder` of qemu's kernel, as test/linux fetches it")
	flags.StringVar(&o.arch, "arch", runtime.GOARCH, "the `architecture` of qemu's machine: amd64 or arm64")
	flags.IntVar(&o.cpus, "cpus", 2, "how many CPUs qemu has")
	flags.IntVar(&o.possible, "possible", 1, "how many CPUs icount could have: more than the one that it has cost the kernel time, too")
	flags.BoolVar(&o.legacy, "legacy", false, "qemu's iptables are the legacy tables, and not nft")
	flags.Func("net", "`tap=NAME`: give user-mode Linux a link vec0, connected to this tap device", func(v string) error {
		name, ok := strings.CutPrefix(v, "tap=")
		if o.tap = name; !ok || name == "" {
			return errors.New("want tap=NAME")
		}
		return nil
	})
	flags.Func("env", "`K=V`: one more variable for the program; repeatable", func(v string) error {
		if i := strings.IndexByte(v, '='); i < 1 {
			return errors.New("want K=V")
		}
		o.env = append(o.env, v)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.argv = flags.Args(); len(o.argv) == 0 {
		return o, errors.New("no program given")
	}
	var err error
	o.linux, err = filepath.Abs(o.linux)
	return o, err
}
