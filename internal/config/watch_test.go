package config

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// put writes a file in place.
func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// link makes a symbolic link, or puts another in its place, as the kubelet does.
func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// TestWatch changes a file that is a ConfigMap's: config.conf -> ..data/config.conf, ..data -> one.
func TestWatch(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(t *testing.T, dir string)
		noticed bool
	}{
		{"nothing", func(*testing.T, string) {}, false},
		{"in place", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "one/config.conf"), "b") }, true},
		{"in place, the same", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "one/config.conf"), "a") }, false},
		{"by rename", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "new"), "b")
			if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "config.conf")); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"as a ConfigMap's", func(t *testing.T, dir string) { link(t, "two", filepath.Join(dir, "..data")) }, true},
		{"as a ConfigMap's, the same", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "two/config.conf"), "a")
			link(t, "two", filepath.Join(dir, "..data"))
		}, false},
		{"removed", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "config.conf")); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"for a moment", func(t *testing.T, dir string) {
			name := filepath.Join(dir, "one/config.conf")
			put(t, name, "half")
			time.Sleep(watchInterval)
			put(t, name, "a")
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range map[string]string{"one": "a", "two": "b"} {
				if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
					t.Fatal(err)
				}
				put(t, filepath.Join(dir, name, "config.conf"), content)
			}
			link(t, "one", filepath.Join(dir, "..data"))
			link(t, "..data/config.conf", filepath.Join(dir, "config.conf"))
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				time.AfterFunc(10*time.Second+time.Millisecond, func() { tt.change(t, dir) })
				start := time.Now()
				accepts := func([]byte) error { return nil }
				err := Watch(ctx, &Config{File: filepath.Join(dir, "config.conf"), FileContent: []byte("a"), Refuses: accepts}, nil)
				if (err != nil) != tt.noticed {
					t.Errorf("after %v: %v, want an error: %t", time.Since(start), err, tt.noticed)
				}
				if took := time.Since(start) - 10*time.Second; err != nil && took > 2*watchInterval {
					t.Errorf("noticed after %v", took)
				}
			})
		})
	}
	if err := Watch(t.Context(), &Config{}, nil); err != nil {
		t.Errorf("without a file: %v", err)
	}
}

// Content that a start would refuse is reported once, and ends nothing; what comes after it counts.
func TestWatchRefuses(t *testing.T) {
	const good = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n"
	const noYAML, noCIDR, noNumber = good + "ipvs: {\n", good + "clusterCIDR: 10.244.0.0\n", good + "conntrack: {min: many}\n"
	for _, tt := range []struct {
		name     string
		contents []string // one after the other
		reported []string // the reasons; empty: none any more
		ends     bool
	}{
		{"good", []string{good + "clusterCIDR: 10.244.0.0/16\n"}, nil, true},
		{"no YAML", []string{noYAML}, []string{"did not find expected node content"}, false},
		{"a value that is refused", []string{noCIDR}, []string{"clusterCIDR: 10.244.0.0: "}, false},
		{"a wrong type", []string{noNumber}, []string{"conntrack.min"}, false},
		{"refused, and as it was", []string{noYAML, good}, []string{"did not find expected node content", ""}, false},
		{"refused for one reason, and for another", []string{noYAML, noCIDR}, []string{"did not find expected node content", "clusterCIDR: 10.244.0.0: "}, false},
		{"refused, then good", []string{noCIDR, good + "clusterCIDR: 10.244.0.0/16\n"}, []string{"clusterCIDR: 10.244.0.0: "}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config.conf")
			put(t, file, good)
			cfg, _, err := parsed(t, "--config="+file).Load()
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				for i, content := range tt.contents {
					time.AfterFunc(time.Duration(i+1)*time.Minute, func() { put(t, file, content) })
				}
				var reported []error
				if err := Watch(ctx, cfg, func(err error) { reported = append(reported, err) }); (err != nil) != tt.ends {
					t.Errorf("ended with %v", err)
				}
				if len(reported) != len(tt.reported) {
					t.Fatalf("reported: %v, want %q", reported, tt.reported)
				}
				for i, err := range reported {
					if said := fmt.Sprint(err); tt.reported[i] == "" && err != nil || tt.reported[i] != "" && !(strings.Contains(said, tt.reported[i]) && strings.Contains(said, file)) {
						t.Errorf("reported: %v, want %q and the file", err, tt.reported[i])
					}
				}
			})
		})
	}
}
