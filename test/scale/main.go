// Command scale measures what nodes cost a real API server, and what a cluster costs a node, at three sizes, and writes the
// figures, and a page that reckons from them for a large cluster.
//
//	scale -docs docs [-sizes 250,1000,4000]
//
// It counts bytes, requests, events and CPU time; none of them is a time of the clock, which depends on the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"kube-ipvs/test/kept"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// options are the flags.
type options struct {
	docs       string
	sizes      string
	part       string
	kubeconfig string
	watchList  bool
	watchers   int
}

// figuresFile has what was measured, beside the page that is made of it.
const figuresFile = "scale.json"

// A part dies with the thread that started it (prctl(2), PR_SET_PDEATHSIG): the main one, which lasts as long as the process.
func init() { runtime.LockOSThread() }

func main() {
	var o options
	flag.StringVar(&o.docs, "docs", "", "write the figures and the page to this `folder`")
	flag.StringVar(&o.sizes, "sizes", "250,1000,4000", "how many `Services` to measure with, the model's two first")
	flag.StringVar(&o.part, "part", "", "be this `part` of a measurement: node or watchers")
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "the API server, for -part")
	flag.BoolVar(&o.watchList, "watch-list", true, "let a node read by a watch, for -part node")
	flag.IntVar(&o.watchers, "watchers", 1, "how many nodes to watch for, for -part watchers")
	flag.Parse()
	ctx, stop := signal.NotifyContext(klog.NewContext(context.Background(), logr.Discard()), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := o.run(ctx, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		stop()
		os.Exit(1)
	}
}

func (o options) run(ctx context.Context, in io.Reader, out io.Writer) error {
	switch o.part {
	case "node":
		return o.node(ctx, in, out)
	case "watchers":
		return o.watch(ctx, in, out)
	}
	sizes, err := parseSizes(o.sizes)
	if err != nil {
		return fmt.Errorf("-sizes=%s: %w", o.sizes, err)
	}
	f, err := measure(ctx, sizes)
	if err != nil {
		return err
	}
	page, err := f.page()
	if err != nil {
		return err
	}
	if o.docs == "" {
		_, err := io.WriteString(out, page)
		return err
	}
	return errors.Join(kept.Write(filepath.Join(o.docs, figuresFile), f), os.WriteFile(filepath.Join(o.docs, "scale.md"), []byte(page), 0o644))
}

// parseSizes returns three numbers of Services, in rising order.
func parseSizes(text string) (sizes [3]int, err error) {
	parts := strings.Split(text, ",")
	if len(parts) != len(sizes) {
		return sizes, fmt.Errorf("%d sizes, want %d", len(parts), len(sizes))
	}
	before := 0
	for i, part := range parts {
		if sizes[i], err = strconv.Atoi(part); err != nil {
			return sizes, err
		}
		if sizes[i] <= before {
			return sizes, fmt.Errorf("%d is not more than %d", sizes[i], before)
		}
		before = sizes[i]
	}
	return sizes, nil
}
