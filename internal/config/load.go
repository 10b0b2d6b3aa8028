package config

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/kube-proxy/config/v1alpha1"
)

// Load returns the configuration of the parsed flags and of the file that they name, and the notes for the log. The error
// joins all problems, in a fixed order; notes are returned with it too.
func (f *Flags) Load() (*Config, []Note, error) {
	if f.action() == ShowVersion {
		return &Config{Action: ShowVersion, RawVersion: f.version == versionRaw}, nil, nil
	}
	if f.file == "" {
		return f.convert(f.proxy.DeepCopy(), new(review))
	}
	data, err := os.ReadFile(f.file)
	if err != nil {
		return nil, nil, fmt.Errorf("--config: %w", err)
	}
	return f.loadFile(data)
}

// loadFile is Load with the content of the configuration file.
func (f *Flags) loadFile(data []byte) (*Config, []Note, error) {
	proxy, faults, err := Decode(data)
	if err != nil {
		return nil, nil, fmt.Errorf("--config=%s: %w", f.file, err)
	}
	r := &review{fromFile: true}
	for _, fault := range faults {
		r.notes = append(r.notes, Note{Setting: "--config", Value: f.file, Message: fault + ", which is ignored"})
	}
	if ignored := f.ignored(); len(ignored) > 0 {
		r.notes = append(r.notes, Note{Setting: "--config", Value: f.file, Message: "the file counts, and not " + strings.Join(ignored, ", ")})
	}
	if err := f.copyLogging(&proxy.Logging); err != nil {
		return nil, nil, err
	}
	cfg, notes, err := f.convert(proxy, r)
	if err != nil {
		err = fmt.Errorf("--config=%s:\n%w", f.file, err)
	}
	if cfg != nil {
		cfg.FileContent = data
		cfg.Refuses = func(content []byte) error { _, _, err := f.loadFile(content); return err }
	}
	return cfg, notes, err
}

// copyLogging overrides the file's settings of the log with those of given flags. Patterns of --vmodule come before the
// file's.
func (f *Flags) copyLogging(to *logsapi.LoggingConfiguration) error {
	patterns := to.VModule
	to.VModule = nil
	var fs pflag.FlagSet
	logsapi.AddFlags(to, &fs)
	var err error
	fs.VisitAll(func(flag *pflag.Flag) {
		given := f.set.Lookup(flag.Name)
		if given == nil || !given.Changed || err != nil {
			return
		}
		if err = flag.Value.Set(given.Value.String()); err != nil {
			err = fmt.Errorf("--%s: %w", flag.Name, err)
		}
	})
	to.VModule = append(to.VModule, patterns...)
	return err
}

// action returns the purpose of the run.
func (f *Flags) action() Action {
	switch {
	case f.version != versionNone:
		return ShowVersion
	case f.writeConfigTo != "":
		return WriteConfig
	case f.cleanup:
		return Cleanup
	case f.initOnly:
		return InitOnly
	case f.dryRun:
		return DryRun
	}
	return Serve
}

// Default returns the configuration without any flag.
func Default() *Config {
	cfg, _, err := AddFlags(pflag.NewFlagSet("", pflag.ContinueOnError)).Load()
	if err != nil {
		panic(err) // the defaults are constants
	}
	return cfg
}

// convert returns the Config of a complete configuration of kube-proxy's type and of the flags of our own.
func (f *Flags) convert(proxy *v1alpha1.KubeProxyConfiguration, r *review) (*Config, []Note, error) {
	f.takePorts(proxy, r)
	c := &Config{
		Action: f.action(), WriteConfigTo: f.writeConfigTo, File: f.file, Manifests: f.manifests, ProcSys: f.procSys, Socket: f.socket,
		API: API{
			Kubeconfig: proxy.ClientConnection.Kubeconfig, Master: f.master, KubeletKubeconfig: f.kubelet, ContentType: proxy.ClientConnection.ContentType,
			AcceptContentTypes: proxy.ClientConnection.AcceptContentTypes,
			QPS:                proxy.ClientConnection.QPS, Burst: int(proxy.ClientConnection.Burst),
		},
		DrainLimit: f.drainLimit, Page: Page(f.page), TrafficSeries: f.trafficSeries, BindHardFail: proxy.BindAddressHardFail, Profiling: proxy.EnableProfiling,
		OOMScoreAdj: int(*proxy.OOMScoreAdj),
	}
	r.ownFlags(f, c)
	r.mode(f, proxy, c)
	r.node(f, proxy, c)
	r.detectLocal(proxy, c)
	r.nodePorts(proxy, c)
	r.ipvs(f, proxy, c)
	r.conntrack(proxy, c)
	r.servers(f, proxy, c)
	r.client(proxy)
	r.withoutEffect(f, proxy)
	c.FeatureGates = r.gates(proxy.FeatureGates)
	c.Gates = set(c.FeatureGates)
	r.logging(proxy, c)
	if err := r.err(); err != nil {
		return nil, r.notes, err
	}
	c.KubeProxy, c.Flags = proxy, f.values()
	return c, r.notes, nil
}
