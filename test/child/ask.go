package child

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Where proxies answer if nobody says otherwise.
const (
	Healthz = "127.0.0.1:10256"
	Metrics = "127.0.0.1:10249"
)

// Each question has a connection of its own: the program may be another one by then.
var client = http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// Get returns what a URL answers with the status 200.
func Get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return string(body), err
}

// Healthy says whether the proxy says of itself that it is.
func Healthy(ctx context.Context) bool {
	_, err := Get(ctx, "http://"+Healthz+"/healthz")
	return err == nil
}

// Metric returns the value of a gauge or counter of the proxy, and of a histogram the sum: the greatest, if labels tell
// several apart.
func Metric(ctx context.Context, name string) (float64, error) {
	text, err := Get(ctx, "http://"+Metrics+"/metrics")
	if err != nil {
		return 0, err
	}
	families, err := MetricFamilies(text)
	if err != nil {
		return 0, err
	}
	if len(families[name].GetMetric()) == 0 {
		return 0, fmt.Errorf("no metric %s", name)
	}
	value := 0.0
	for _, m := range families[name].GetMetric() {
		value = max(value, m.GetGauge().GetValue(), m.GetCounter().GetValue(), m.GetHistogram().GetSampleSum())
	}
	return value, nil
}

// MetricFamilies returns metrics in Prometheus's text format, by name.
func MetricFamilies(text string) (map[string]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(strings.NewReader(text))
}

// Synced says whether the proxy has ended a look at everything that changed after that moment.
func Synced(ctx context.Context, since time.Time) bool {
	at, err := Metric(ctx, "kubeproxy_sync_proxy_rules_last_timestamp_seconds")
	return err == nil && at >= float64(since.UnixNano())/1e9
}
