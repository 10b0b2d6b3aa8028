package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"k8s.io/klog/v2"
	"k8s.io/utils/cpuset"

	"kube-ipvs/internal/config"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
)

// writeConfig writes the configuration as a file that kube-proxy can read, too.
func writeConfig(cfg *config.Config, stdout io.Writer) error {
	text, err := config.Encode(cfg.KubeProxy)
	if err != nil {
		return err
	}
	if err := os.WriteFile(cfg.WriteConfigTo, text, 0o644); err != nil {
		return fmt.Errorf("--write-config-to: %w", err)
	}
	fmt.Fprintln(stdout, "Wrote configuration to", cfg.WriteConfigTo)
	return nil
}

// initialize does the work that needs more rights than serving, for an init container: modules, kernel settings,
// timeouts. It needs no API server.
func initialize(ctx context.Context, cfg *config.Config) (err error) {
	loading := loadModules(ctx, modulesFor(cfg))
	settings := &sysctl.Files{Root: cfg.ProcSys}
	defer func() { err = errors.Join(err, settings.Close()) }()
	errs := settings.Do(ctx, possibleSettings(ctx, cfg, settings))
	errs = append(errs, tuneConntrack(ctx, settings, hashSizeFile, cpus(), cfg.Conntrack, writeNumber))
	table, err := ipvs.Open()
	if err != nil {
		return errors.Join(append(errs, err, loading)...)
	}
	errs = append(errs, table.SetTimeouts(ctx, timeouts(cfg)), table.Close())
	return errors.Join(errs...)
}

// tune applies the settings that kube-proxy applies, too. Serving continues without them.
func tune(ctx context.Context, cfg *config.Config, settings sysctl.Kernel) {
	log := klog.FromContext(ctx)
	if err := tuneConntrack(ctx, settings, hashSizeFile, cpus(), cfg.Conntrack, writeNumber); err != nil {
		log.Info("Connection tracking is not configured as requested; an init container with --init-only and the necessary rights can do it", "err", err)
	}
	if err := setOOMScore(oomScoreFile, cfg.OOMScoreAdj); err != nil {
		log.Info("Cannot set the OOM score; this needs CAP_SYS_RESOURCE", "oomScoreAdj", cfg.OOMScoreAdj, "err", err)
	}
}

// cpus returns the number of the node's CPUs, regardless of this process's share.
func cpus() int {
	n, err := cpuset.NumCPU()
	if err != nil || n < 1 {
		return 1
	}
	return n
}

func timeouts(cfg *config.Config) ipvs.Timeouts {
	return ipvs.Timeouts{TCP: cfg.IPVS.TCPTimeout, TCPFin: cfg.IPVS.TCPFinTimeout, UDP: cfg.IPVS.UDPTimeout}
}

// modulesFor returns the modules that a configuration needs.
func modulesFor(cfg *config.Config) []string {
	out := slices.Clone(modules)
	for _, scheduler := range schedulersOf(cfg) {
		out = append(out, "ip_vs_"+scheduler)
	}
	return out
}

// schedulersOf returns the schedulers that virtual servers may have.
func schedulersOf(cfg *config.Config) []string {
	return append([]string{cfg.IPVS.Scheduler}, cfg.IPVS.Schedulers...)
}
