// Command bench measures what kube-ipvs costs, in one boot of a kernel that has IPVS, and writes what it saw as a page
// and plots.
//
//	inkernel -timeout 60m bench -docs docs [-only first,change,...] [-rounds N]
//	inkernel -timeout 60m -kernel icount bench -docs docs -page instructions
//
// Every measurement is made by a process of its own in a network namespace of its own: no IPVS table, no heap and nothing
// that the kernel keeps aside of what was deleted is shared. What is compared is measured in turns, round by round, and of
// figures and ratios the median counts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// options are the flags.
type options struct {
	docs    string
	page    string
	only    string
	rounds  int
	part    string
	size    size
	profile string
}

func main() {
	var o options
	flag.StringVar(&o.docs, "docs", "", "write the page and its plots to this `folder`")
	flag.StringVar(&o.page, "page", "bench", "which `page` to write: bench, or instructions, which are counted")
	flag.StringVar(&o.only, "only", "", "measure only these `sections`, by name, with commas between them")
	flag.IntVar(&o.rounds, "rounds", 0, "how `often` to measure; 0: as often as each section needs")
	flag.StringVar(&o.part, "part", "", "be the process that makes this `measurement`, for every line on standard input once")
	flag.IntVar(&o.size.Services, "services", 10, "how many Services there are, for -part")
	flag.IntVar(&o.size.Endpoints, "endpoints", 10, "how many endpoints each of them has, for -part")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of -part to this `file`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := o.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func (o options) run(ctx context.Context, out io.Writer) error {
	if o.part != "" {
		return o.be(ctx, os.Stdin, out)
	}
	var done []finding
	var failed error
	page, ok := pages()[o.page]
	if !ok {
		return fmt.Errorf("-page=%s: no such page", o.page)
	}
	for _, s := range page.sections {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), s.name) {
			continue
		}
		f, err := s.measure(ctx, o.rounds)
		if err != nil {
			failed = errors.Join(failed, err) // it takes no other section with it
			continue
		}
		f.print(out)
		done = append(done, f)
	}
	if o.docs == "" {
		return failed
	}
	return errors.Join(failed, page.write(o.docs, o.page, done))
}
