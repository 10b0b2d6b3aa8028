package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kube-ipvs/internal/config"
	"kube-ipvs/ipvs/sysctl"
)

const (
	maxName  = config.MaxSetting
	timeName = "net/netfilter/nf_conntrack_tcp_timeout_established"
)

func TestTuneConntrack(t *testing.T) {
	want := config.Conntrack{MaxPerCore: 1000, Min: 100, TCPEstablishedTimeout: time.Hour}
	for _, tt := range []struct {
		name     string
		max      string // in the kernel; empty: it has no such setting
		hash     string // in the file; empty: there is none
		readOnly bool
		wantMax  string
		wantHash string
		wantErr  string
	}{
		{name: "raised", max: "3999", hash: "999\n", wantMax: "4000", wantHash: "1000"},
		{name: "large enough", max: "4001", hash: "1001\n", wantMax: "4001", wantHash: "1001\n"},
		{name: "the table alone", max: "4000", hash: "5\n", wantMax: "4000", wantHash: "1000"},
		{name: "no module", hash: "5\n", wantHash: "1000", wantErr: maxName},
		{name: "no table", max: "5", wantMax: "4000", wantErr: "hash table of conntrack: open "},
		{name: "read only", max: "5", hash: "1000\n", readOnly: true, wantMax: "5", wantHash: "1000\n", wantErr: maxName},
	} {
		t.Run(tt.name, func(t *testing.T) {
			settings := []sysctl.Setting{{Name: timeName, Value: "432000"}}
			if tt.max != "" {
				settings = append(settings, sysctl.Setting{Name: maxName, Value: tt.max})
			}
			kernel := sysctl.NewFake(settings...)
			kernel.SetReadOnly(tt.readOnly)
			file := filepath.Join(t.TempDir(), "hashsize")
			if tt.hash != "" {
				if err := os.WriteFile(file, []byte(tt.hash), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := tuneConntrack(t.Context(), kernel, file, 4, want, writeNumber)
			if (err != nil) != (tt.wantErr != "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("%v, want %q", err, tt.wantErr)
			}
			values, _ := kernel.Read(t.Context(), []string{maxName, timeName})
			if values[maxName] != tt.wantMax || values[timeName] != map[bool]string{false: "3600", true: "432000"}[tt.readOnly] {
				t.Errorf("%v, want %s", values, tt.wantMax)
			}
			if hash, _ := os.ReadFile(file); string(hash) != tt.wantHash {
				t.Errorf("table of %q, want %q", hash, tt.wantHash)
			}
		})
	}
	if err := tuneConntrack(t.Context(), sysctl.NewFake(), "/nowhere", 4, config.Conntrack{}, writeNumber); err != nil {
		t.Errorf("nothing was wanted: %v", err)
	}
}

func TestSetOOMScore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "oom_score_adj")
	if err := setOOMScore(file, -999); err == nil {
		t.Error("the file does not exist, and was made")
	}
	if err := os.WriteFile(file, []byte("100\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := setOOMScore(file, -999); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := os.ReadFile(file); string(got) != "-999" {
		t.Errorf("%q", got)
	}
}
