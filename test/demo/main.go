// Command demo shows what kube-ipvs does: it runs the program on a folder of manifests, in a kernel that has IPVS, with
// network namespaces for a node, a second node, pods and a client outside, and holds what happens against what must
// happen, case by case.
//
//	inkernel demo -kube-ipvs PROGRAM -manifests FOLDER [-state FILE]
//
// The exit status is 1 if one case is wrong or the demo cannot be carried out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// options are the flags.
type options struct {
	program   string
	manifests string
	state     string
}

func main() {
	var o options
	flag.StringVar(&o.program, "kube-ipvs", ".bin/kube-ipvs", "the `program` to show")
	flag.StringVar(&o.manifests, "manifests", "test/demo/manifests", "the `folder` of manifests")
	flag.StringVar(&o.state, "state", "", "write what the kernel holds at the end, before the cleanup, to this `file`, too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	right, err := o.show(ctx, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
	if err != nil || !right {
		stop()
		os.Exit(1)
	}
}

// show plays all cases and says whether all of them are right.
func (o options) show(ctx context.Context, out io.Writer) (right bool, err error) {
	s, err := newStage(ctx, o, out)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	before, err := countRules(ctx)
	if err != nil {
		return false, err
	}
	s.out.introduce(s.program.command())
	if err := s.playAll(ctx, scenes()); err != nil {
		return false, err
	}
	held, err := readState(ctx)
	if err != nil {
		return false, err
	}
	if o.state != "" {
		if err := writeState(ctx, o.state); err != nil {
			return false, err
		}
	}
	if err := s.playAll(ctx, []scene{cleanup()}); err != nil {
		return false, err
	}
	return s.out.conclude(s.results, before, held), nil
}
