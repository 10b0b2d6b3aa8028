package charts_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	corev1 "k8s.io/api/core/v1"
)

// A metric is one that the program or Prometheus has.
type metric struct {
	kind   string // counter, gauge, histogram
	labels []string
}

// targetLabels are those of each series, by the PodMonitor.
var targetLabels = []string{"node", "pod", "namespace", "container", "job", "instance"}

// metrics returns all metrics that queries may name: docs/metrics.md, which is generated from the program, and those that every
// target has.
func metrics(t *testing.T) map[string]metric {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]metric{
		"up":                            {kind: "gauge"},
		"process_start_time_seconds":    {kind: "gauge"},
		"process_resident_memory_bytes": {kind: "gauge"},
		"process_cpu_seconds_total":     {kind: "counter"},
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\w+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(text), -1) {
		m := metric{kind: row[2]}
		for label := range strings.SplitSeq(row[3], ",") {
			m.labels = append(m.labels, strings.Trim(label, " `"))
		}
		if m.kind != "histogram" {
			out[row[1]] = m
			continue
		}
		out[row[1]+"_sum"], out[row[1]+"_count"] = metric{"counter", m.labels}, metric{"counter", m.labels}
		out[row[1]+"_bucket"] = metric{"counter", append([]string{"le"}, m.labels...)}
	}
	if len(out) < 15 {
		t.Fatalf("docs/metrics.md has only %d metrics", len(out))
	}
	return out
}

// TestQueries holds each query of the rules and of the dashboard to the program's metrics.
func TestQueries(t *testing.T) {
	have := metrics(t)
	for where, query := range queries(t) {
		for _, fault := range faults(query, have) {
			t.Errorf("%s: %s\n%s", where, fault, query)
		}
	}
}

func TestFaults(t *testing.T) {
	have := map[string]metric{"g": {"gauge", []string{"layer"}}, "c_total": {"counter", nil}}
	for query, want := range map[string]string{
		`sum by (node, layer) (g{pod="a"})`: "",
		`rate(c_total[5m]) > 0`:             "",
		`g +`:                               "parse error",
		`h`:                                 "no metric h",
		`g{part="a"}`:                       "g has no label part",
		`sum by (part) (g)`:                 "no label part in what it adds up",
		`rate(g[5m])`:                       "rate of g, a gauge",
		`c_total > 5`:                       "c_total, a counter, without its rate or increase",
		`sum(c_total)`:                      "c_total, a counter, without its rate or increase",
		`{__name__=~"g.*"}`:                 "a selector without a name",
		`histogram_quantile(0.9, sum (g))`:  "",
		`sum without (instance) (increase(c_total[1h]))`: "",
	} {
		if got := strings.Join(faults(query, have), "; "); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

// queries returns all queries by their place.
func queries(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, group := range monitored[monitoringv1.PrometheusRule](t, "PrometheusRule").Spec.Groups {
		for _, rule := range group.Rules {
			out["alert "+rule.Alert] = rule.Expr.String()
		}
	}
	for _, panel := range dashboard(t).Panels {
		for _, target := range panel.Targets {
			out[fmt.Sprintf("panel %q, %s", panel.Title, target.RefID)] = inGrafana.Replace(target.Expr)
		}
	}
	if len(out) < 20 {
		t.Fatalf("%d queries cannot be all", len(out))
	}
	return out
}

// inGrafana replaces variables as Grafana does.
var inGrafana = strings.NewReplacer("$__rate_interval", "5m", "$node", "a|b")

// faults returns what is wrong with a query.
func faults(query string, have map[string]metric) []string {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			out = append(out, faultsOfSelector(n, path, have)...)
		case *parser.AggregateExpr:
			for _, label := range n.Grouping {
				if !n.Without && !hasLabel(n, label, have) {
					out = append(out, fmt.Sprintf("no label %s in what it adds up", label))
				}
			}
		}
		return nil
	})
	return out
}

func faultsOfSelector(selector *parser.VectorSelector, path []parser.Node, have map[string]metric) []string {
	if selector.Name == "" {
		return []string{"a selector without a name"}
	}
	m, ok := have[selector.Name]
	if !ok {
		return []string{"no metric " + selector.Name}
	}
	var out []string
	for _, matcher := range selector.LabelMatchers {
		if matcher.Name != model.MetricNameLabel && !slices.Contains(append(targetLabels, m.labels...), matcher.Name) {
			out = append(out, fmt.Sprintf("%s has no label %s", selector.Name, matcher.Name))
		}
	}
	function := ""
	for _, node := range path {
		if call, ok := node.(*parser.Call); ok && slices.Contains([]string{"rate", "irate", "increase"}, call.Func.Name) {
			function = call.Func.Name
		}
	}
	switch {
	case m.kind == "counter" && function == "":
		out = append(out, fmt.Sprintf("%s, a counter, without its rate or increase", selector.Name))
	case m.kind != "counter" && function != "":
		out = append(out, fmt.Sprintf("%s of %s, a %s", function, selector.Name, m.kind))
	}
	return out
}

// hasLabel reports whether a metric in the expression has the label.
func hasLabel(expr parser.Expr, label string, have map[string]metric) bool {
	found := slices.Contains(targetLabels, label)
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			found = found || slices.Contains(have[selector.Name].labels, label)
		}
		return nil
	})
	return found
}

// A board is the part of Grafana's dashboard that the test looks at.
type board struct {
	UID        string `json:"uid"`
	Templating struct {
		List []struct {
			Name, Query string
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		ID                 int
		Title, Description string
		Datasource         struct{ UID string }
		GridPos            struct{ X, Y, W, H int }
		Targets            []struct {
			RefID, Expr string
		}
	} `json:"panels"`
}

func dashboard(t *testing.T) board {
	t.Helper()
	var out board
	if err := json.Unmarshal([]byte(monitored[corev1.ConfigMap](t, "ConfigMap").Data["kube-ipvs.json"]), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDashboard looks for what Grafana would show wrongly, or not at all.
func TestDashboard(t *testing.T) {
	d := dashboard(t)
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, panel := range d.Panels {
		if ids[panel.ID] || panel.Title == "" || panel.Description == "" || panel.Datasource.UID != "${datasource}" {
			t.Errorf("panel %d: title %q, description %q, data source %q: each is unique or has a value", panel.ID, panel.Title, panel.Description, panel.Datasource.UID)
		}
		ids[panel.ID] = true
		at := panel.GridPos
		if at.X+at.W > 24 {
			t.Errorf("panel %q is wider than the page", panel.Title)
		}
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("panel %q covers %q", panel.Title, other)
				}
				taken[[2]int{x, y}] = panel.Title
			}
		}
		for _, target := range panel.Targets {
			if !strings.Contains(target.Expr, "$node") {
				t.Errorf("panel %q does not obey the choice of nodes: %s", panel.Title, target.Expr)
			}
		}
	}
	if len(d.Templating.List) != 2 || d.Templating.List[1].Query != `label_values(up{container="kube-ipvs"}, node)` {
		t.Errorf("variables: %+v", d.Templating.List)
	}
}
