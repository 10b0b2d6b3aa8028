package charts_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// monitored returns the monitoring objects of the chart by kind, held to the types of the Prometheus operator: a field that these
// do not have is an error.
func monitored[T any](t *testing.T, kind string) *T {
	t.Helper()
	for _, object := range helm(t, "{platform: kind, monitoring: {enabled: true}}") {
		if object.GetKind() == kind {
			out := new(T)
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, out, true); err != nil {
				t.Fatal(err)
			}
			return out
		}
	}
	t.Fatalf("there is no %s", kind)
	return nil
}

// TestPodMonitor finds the port of /metrics: the pods' labels, the port's name, and that it is not at a loopback address.
func TestPodMonitor(t *testing.T) {
	monitor := monitored[monitoringv1.PodMonitor](t, "PodMonitor")
	set := daemonSet(t, helm(t, "{platform: kind, monitoring: {enabled: true}}"))
	if diff := cmp.Diff(set.Spec.Template.Labels, monitor.Spec.Selector.MatchLabels); diff != "" {
		t.Errorf("the pods' labels, and the selector:\n%s", diff)
	}
	var port int32
	for _, p := range set.Spec.Template.Spec.Containers[0].Ports {
		if p.Name == *monitor.Spec.PodMetricsEndpoints[0].Port {
			port = p.ContainerPort
		}
	}
	args := set.Spec.Template.Spec.Containers[0].Args
	if want := fmt.Sprintf("--metrics-bind-address=0.0.0.0:%d", port); !slices.Contains(args, want) {
		t.Errorf("%v lack %s", args, want)
	}
}

// ruleFile writes the rules as Prometheus's own file and returns its path.
func ruleFile(t *testing.T) string {
	t.Helper()
	text, err := yaml.Marshal(monitored[monitoringv1.PrometheusRule](t, "PrometheusRule").Spec)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A ruleTest is the part of promtool's format that testdata/rules_test.yaml has.
type ruleTest struct {
	RuleFiles          []string       `json:"rule_files"`
	EvaluationInterval model.Duration `json:"evaluation_interval"`
	Tests              []struct {
		Name        string         `json:"name"`
		Interval    model.Duration `json:"interval"`
		InputSeries []struct {
			Series string `json:"series"`
			Values string `json:"values"`
		} `json:"input_series"`
		AlertRuleTest []struct {
			Alertname string          `json:"alertname"`
			EvalTime  model.Duration  `json:"eval_time"`
			ExpAlerts []expectedAlert `json:"exp_alerts"`
		} `json:"alert_rule_test"`
	} `json:"tests"`
}

type expectedAlert struct {
	Labels      map[string]string `json:"exp_labels"`
	Annotations map[string]string `json:"exp_annotations"`
}

// TestRules plays testdata/rules_test.yaml: series, and the alerts that fire and that do not. Each alert must fire in one test and be
// silent at some time in it.
func TestRules(t *testing.T) {
	text, err := os.ReadFile("testdata/rules_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file ruleTest
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		t.Fatal(err)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		t.Run(test.Name, func(t *testing.T) {
			input := fmt.Sprintf("load %s\n", test.Interval)
			for _, series := range test.InputSeries {
				input += fmt.Sprintf("  %s %s\n", series.Series, series.Values)
			}
			for _, want := range test.AlertRuleTest {
				fires[want.Alertname] = fires[want.Alertname] || len(want.ExpAlerts) > 0
				silent[want.Alertname] = silent[want.Alertname] || len(want.ExpAlerts) == 0
				got := firing(t, input, time.Duration(file.EvaluationInterval), want.Alertname, time.Duration(want.EvalTime))
				if diff := cmp.Diff(want.ExpAlerts, got); diff != "" {
					t.Errorf("%s after %s (-want +got):\n%s", want.Alertname, want.EvalTime, diff)
				}
			}
		})
	}
	for _, alert := range alerts(t) {
		if !fires[alert] || !silent[alert] {
			t.Errorf("%s: a test in which it fires: %v, and in which it does not: %v", alert, fires[alert], silent[alert])
		}
	}
}

// firing evaluates the rules at each interval, as Prometheus does, and returns what fires of an alert in the end.
func firing(t *testing.T, input string, interval time.Duration, alert string, at time.Duration) []expectedAlert {
	t.Helper()
	series, err := promqltest.NewLazyLoader(input, promqltest.LazyLoaderOpts{})
	if err != nil {
		t.Fatal(err)
	}
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc:            rules.EngineQueryFunc(series.QueryEngine(), series.Storage()),
		Appendable:           series.Storage(),
		NotifyFunc:           func(context.Context, string, ...*rules.Alert) {},
		Context:              t.Context(),
		Queryable:            series.Storage(),
		Logger:               promslog.NewNopLogger(),
		NameValidationScheme: model.UTF8Validation,
		Parser:               parser.NewParser(parser.Options{}),
	})
	groups, errs := manager.LoadGroups(interval, labels.EmptyLabels(), "", nil, false, ruleFile(t))
	if errs != nil {
		t.Fatal(errs)
	}
	var out []expectedAlert
	for _, group := range groups {
		for now := time.Duration(0); now <= at; now += interval {
			ts := time.Unix(0, 0).UTC().Add(now)
			series.WithSamplesTill(ts, func(err error) {
				if err != nil {
					t.Fatal(err)
				}
				group.Eval(t.Context(), ts)
			})
		}
		for _, rule := range group.AlertingRules() {
			if err := rule.LastError(); err != nil {
				t.Fatal(err)
			}
			for _, a := range rule.ActiveAlerts() {
				if rule.Name() == alert && a.State == rules.StateFiring {
					out = append(out, expectedAlert{a.Labels.MatchLabels(false, model.MetricNameLabel, labels.AlertName).Map(), a.Annotations.Map()})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b expectedAlert) int { return strings.Compare(a.Labels["node"], b.Labels["node"]) })
	return out
}

// alerts returns the names of all alerts.
func alerts(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, group := range monitored[monitoringv1.PrometheusRule](t, "PrometheusRule").Spec.Groups {
		for _, rule := range group.Rules {
			if rule.Alert != "" {
				names = append(names, rule.Alert)
			}
		}
	}
	if len(names) < 5 {
		t.Fatalf("%v cannot be all alerts", names)
	}
	return names
}
