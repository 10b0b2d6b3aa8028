package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"kube-ipvs/internal/config"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
)

// --ipvs-estimation is kept like other settings. Where the kernel lacks the setting that is told, and nothing else is different.
func TestEstimationIsKept(t *testing.T) {
	for _, tt := range []struct {
		name       string
		estimation config.Estimation
		lacking    bool
		want       string // of the setting; empty: it is not kept
		told       bool
	}{
		{"as the kernel has it", config.EstimationAsIs, false, "", false},
		{"on", config.EstimationOn, false, "1", false},
		{"off", config.EstimationOff, false, "0", false},
		{"an old kernel", config.EstimationAsIs, true, "", false},
		{"an old kernel, on", config.EstimationOn, true, "", true},
		{"an old kernel, off", config.EstimationOff, true, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, kernel, log := *config.Default(), sysctl.NewFake(), new(bytes.Buffer)
			plain := fmt.Sprint(possibleSettings(t.Context(), &cfg, kernel))
			if !tt.lacking {
				kernel = sysctl.NewFake(sysctl.Setting{Name: ipvs.RunEstimation, Value: "1"})
			}
			cfg.IPVS.Estimation = tt.estimation
			ctx := klog.NewContext(t.Context(), textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(log))))
			got := fmt.Sprint(possibleSettings(ctx, &cfg, kernel))
			want := plain
			if tt.want != "" {
				want = strings.TrimSuffix(plain, "]") + " sysctl -w " + ipvs.RunEstimation + "=" + tt.want + "]"
			}
			if lines := strings.Count(log.String(), ipvs.RunEstimation); got != want || (lines == 1) != tt.told || lines > 1 {
				t.Errorf("%s, want %s; told: %s", got, want, log)
			}
		})
	}
}
