package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"kube-ipvs/internal/check"
	"kube-ipvs/internal/cli"
	"kube-ipvs/internal/config"
)

// A subcommand that is misused has its own exit status: 1 has a meaning.
func TestMisuseOfSubcommands(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"diff --speed=11", "unknown flag: --speed"},
		{"diff now", `unexpected argument "now"`},
		{"diff --cleanup", "diff: none of the flags --[cleanup"},
		{"diff --cluster-cidr=10.0.0.0", "must be a range like 10.0.0.0/8"},
		{"check --speed=11", "unknown flag: --speed"},
		{"check now", `unexpected argument "now"`},
		{"check --init-only", "check: none of the flags --[cleanup"},
		{"check --manifests=/ -o xml", "--output=xml: must be table, json or yaml"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var out, err bytes.Buffer
			if status := program(t.Context(), strings.Fields(tt.args), &out, &err); status != cli.Trouble {
				t.Errorf("exit status %d, want %d", status, cli.Trouble)
			}
			if !strings.Contains(err.String(), tt.want) || out.Len() > 0 {
				t.Errorf("said %q and %q, want %q", out.String(), err.String(), tt.want)
			}
		})
	}
}

// All formats have the same findings.
func TestFormatsOfFindings(t *testing.T) {
	found := []check.Finding{
		{Check: "kernel", Severity: check.OK, Found: "Linux 6.1"},
		{Check: "ports", Severity: check.Error, Found: strings.Repeat("word ", 25) + "end", Do: "stop it"},
	}
	want := checkReport{"kube-ipvs/v1", "CheckReport", 1, found}
	for format, decode := range map[string]func([]byte, any) error{
		"json": json.Unmarshal, "yaml": func(text []byte, to any) error { return yaml.Unmarshal(text, to) },
	} {
		var out bytes.Buffer
		var got checkReport
		if err := printFindings(&out, format, found); err != nil {
			t.Error(err)
		}
		if err := decode(out.Bytes(), &got); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
	var out bytes.Buffer
	if err := printFindings(&out, "table", found); err != nil {
		t.Error(err)
	}
	table := "CHECK   SEVERITY  FOUND\n" +
		"kernel  ok        Linux 6.1\n" +
		"ports   error     " + strings.TrimSpace(strings.Repeat("word ", 19)) + "\n" +
		"                  " + strings.Repeat("word ", 6) + "end\n" +
		"                  -> stop it\n"
	if diff := cmp.Diff(table, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Checks compare the node with the configuration.
func TestWanted(t *testing.T) {
	cfg := config.Default()
	cfg.DetectLocal = config.DetectLocal{Mode: config.BridgeInterface, Interface: "cni0"}
	cfg.Masquerade.Bit = 30
	got := wanted(cfg)
	if got.PodBridge != "cni0" || got.Bits != 0x50100000 || len(got.Ports) != 2 || len(got.Settings) != 5 {
		t.Errorf("%+v", got)
	}
	if last := got.Modules[len(got.Modules)-1]; last != "ip_vs_rr" {
		t.Errorf("the scheduler's module is %s", last)
	}
}
