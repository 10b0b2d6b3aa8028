package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"kube-ipvs/internal/cli"
	"kube-ipvs/internal/config"
	"kube-ipvs/sync/health"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/kube"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// differs is the exit status of diff if there are differences, as of diff(1).
const differs = 1

// diffLimit bounds the time until Services were read and compared.
const diffLimit = time.Minute

func diffCommand() *cobra.Command {
	var flags *config.Flags
	cmd := &cobra.Command{
		Use:   "diff",
		Short: "Print what a start would change on this node, as commands, and change nothing",
		Long: `Print what a start would change on this node, as commands that an operator could type, in their order.

The flags are those of kube-ipvs itself: give those with which it runs. Nothing is written, whether kube-ipvs runs or
not. Tracked UDP flows, which a start deletes where endpoints are gone, are not compared.

Exit status: 0 without differences, 1 with some, 2 if the kernel or the Services cannot be read.`,
		Example: `  kube-ipvs diff --cluster-cidr=10.244.0.0/16 --kubeconfig=/etc/kubernetes/kubelet.conf
  kube-ipvs diff --config=/var/lib/kube-proxy/config.conf
  kube-ipvs diff --cluster-cidr=10.244.0.0/16 --manifests=/etc/kube-ipvs/manifests`,
		Args: func(cmd *cobra.Command, args []string) error { return cli.Troubled(noArguments(cmd, args)) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadFor(cmd, flags)
			if err != nil {
				return cli.Troubled(err)
			}
			return diff(cmd.Context(), cfg, cmd.OutOrStdout())
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return cli.Troubled(err) })
	flags = addServeFlags(cmd)
	return cmd
}

// actionFlags select an action of the program beside serving.
var actionFlags = []string{"cleanup", "dry-run", "init-only", "version", "write-config-to"}

// addServeFlags declares the flags of the program itself for a subcommand that examines what they ask for.
func addServeFlags(cmd *cobra.Command) *config.Flags {
	flags := config.AddFlags(cmd.Flags())
	for _, name := range actionFlags {
		_ = cmd.Flags().MarkHidden(name) // fails only for a flag that is not declared
	}
	return flags
}

// loadFor returns the configuration of the flags of addServeFlags.
func loadFor(cmd *cobra.Command, flags *config.Flags) (*config.Config, error) {
	cfg, _, err := flags.Load()
	if err != nil {
		return nil, err
	}
	if cfg.Action != config.Serve {
		return nil, fmt.Errorf("%s: none of the flags --%v can be used with it", cmd.Name(), actionFlags)
	}
	return cfg, nil
}

// diff prints what a start would change. The error has the exit status, and the objects that a start could not make.
func diff(ctx context.Context, cfg *config.Config, stdout io.Writer) error {
	changes := 0
	impossible, err := dryRun(ctx, cfg, func(line string) {
		changes++
		fmt.Fprintln(stdout, line)
	})
	switch {
	case err != nil:
		return cli.Exit(cli.Trouble, err)
	case impossible != nil:
		return cli.Exit(differs, fmt.Errorf("a start could not make all that is wanted: %w", impossible))
	case changes > 0:
		return cli.Exit(differs, nil)
	}
	return nil
}

// dryRun does what serve does, up to the end of the first sync, on a kernel that notes operations instead. It takes no lock, loads no
// modules, posts no Events and listens nowhere. Impossible is the reason why single objects could not be made.
func dryRun(ctx context.Context, cfg *config.Config, note func(string)) (impossible, err error) {
	ctx, cancel := context.WithTimeoutCause(klog.NewContext(ctx, logr.Discard()), diffLimit, fmt.Errorf("the Services and the kernel could not be compared within %v", diffLimit))
	defer cancel()
	if err := checkCapabilities(); err != nil {
		return nil, err
	}
	kube.SetFeatures(cfg.FeatureGates)
	k, err := ipvsmode.OpenReadOnly(ctx, cfg.ProcSys)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	p, err := newProxy(ctx, cfg, k)
	if err != nil {
		return nil, err
	}
	p.silence()
	dry := ipvsmode.Dry(k.Kernel(), note)
	if err := dryTune(ctx, cfg, k, dry, note); err != nil {
		return nil, err
	}
	return p.syncOnce(ctx, dry)
}

// silence keeps the proxy from telling anybody anything.
func (p *proxy) silence() {
	p.queue.Serial = true
	p.postEvent = func(plan.Name, kube.Event) {}
	p.problems = newNodeReporter(logr.Discard(), func(kube.Event) {})
	p.ports = health.NewNodePorts(p.state, nil, func(plan.Name, error) {})
}

// dryTune notes the settings that serve makes before the loop runs. As there, those that cannot be made are left.
func dryTune(ctx context.Context, cfg *config.Config, k *ipvsmode.Connection, dry ipvsmode.Kernel, note func(string)) error {
	now, err := k.IPVS.Timeouts(ctx)
	if err != nil {
		return err
	}
	keep := func(want, now time.Duration) bool { return want == 0 || want == now }
	if want := timeouts(cfg); !keep(want.TCP, now.TCP) || !keep(want.TCPFin, now.TCPFin) || !keep(want.UDP, now.UDP) {
		note(fmt.Sprintf("ipvsadm --set %.0f %.0f %.0f", want.TCP.Seconds(), want.TCPFin.Seconds(), want.UDP.Seconds()))
	}
	_ = tuneConntrack(ctx, dry.Sysctl, hashSizeFile, cpus(), cfg.Conntrack, func(file string, n int) error {
		note(fmt.Sprintf("echo %d > %s", n, file))
		return nil
	})
	return nil
}

// errSynced ends what runs for the sake of one sync.
var errSynced = errors.New("synced")

// syncOnce syncs a kernel once. Impossible is the reason why single objects could not be made.
func (p *proxy) syncOnce(ctx context.Context, k ipvsmode.Kernel) (impossible, err error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return p.source.Run(ctx) })
	parts.Go(func() error {
		cfg, err := p.dryConfig(ctx)
		if err != nil {
			return err
		}
		cfg.Kernel = k
		cfg.Converged = func(err error) {
			switch {
			case err == nil:
				end(errSynced)
			case errors.Is(err, loop.ErrObjects):
				impossible = err
				end(errSynced)
			default:
				end(err)
			}
		}
		return ipvsmode.New(cfg).Run(ctx)
	})
	err = parts.Wait()
	if cause := context.Cause(ctx); cause != nil { // errors of the parts follow from it
		err = cause
	}
	if errors.Is(err, errSynced) {
		err = nil
	}
	return impossible, err
}

// dryConfig is the loop's configuration for one sync that nobody hears of.
func (p *proxy) dryConfig(ctx context.Context) (ipvsmode.Config, error) {
	podCIDRs, err := p.podCIDRs(ctx)
	if err != nil {
		return ipvsmode.Config{}, err
	}
	cfg, err := p.loopConfig(ctx, podCIDRs)
	cfg.LookInterval = 0
	cfg.Report = func(plan.Name, []plan.Problem) {}
	cfg.Health = func(plan.Name, *plan.Health) {}
	return cfg, err
}
