package main

import (
	"strings"
	"testing"
	"time"
)

// A proxy has synced when both of its families have, in the words of kube-proxy 1.37.
func TestHasSynced(t *testing.T) {
	for _, tt := range []struct {
		name          string
		ended, queued [2]string // of IPv4 and of IPv6; empty: it has none
		due, want     bool
	}{
		{"both ended later", [2]string{"1.1e+09", "1.2e+09"}, [2]string{"1.05e+09", "1.1e+09"}, true, true},
		{"both ended at once", [2]string{"1.1e+09", "1.2e+09"}, [2]string{"1.1e+09", "1.2e+09"}, true, true},
		{"one is due again", [2]string{"1.1e+09", "1.2e+09"}, [2]string{"1.05e+09", "1.3e+09"}, true, false},
		{"one ended before", [2]string{"1.1e+09", "0.9e+09"}, [2]string{"1.05e+09", "0.8e+09"}, false, false},
		{"one ended, and was due before", [2]string{"1.1e+09", "1.1e+09"}, [2]string{"1.05e+09", "0.8e+09"}, false, false},
		{"one has not begun", [2]string{"1.1e+09", ""}, [2]string{"1.05e+09", "1.1e+09"}, true, false},
		{"neither has begun", [2]string{}, [2]string{"1.05e+09", "1.1e+09"}, true, false},
	} {
		var metrics strings.Builder
		for name, values := range map[string][2]string{lastSync: tt.ended, lastQueued: tt.queued} {
			metrics.WriteString("# TYPE " + name + " gauge\n")
			for i, value := range values {
				if value != "" {
					metrics.WriteString(name + `{ip_family="` + []string{"IPv4", "IPv6"}[i] + `"} ` + value + "\n")
				}
			}
		}
		if due, got, err := hasSynced(metrics.String(), time.Unix(1_000_000_000, 0)); due != tt.due || got != tt.want || err != nil {
			t.Errorf("%s: due %v, ended %v, %v", tt.name, due, got, err)
		}
	}
	if _, _, err := hasSynced("no metrics", time.Time{}); err == nil {
		t.Error("no error of a text that is none")
	}
}
