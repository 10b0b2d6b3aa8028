package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kube-ipvs/test/child"
)

// metricsPort is where a proxy tells its metrics.
const metricsPort = 10249

// When a proxy's last sync of a family ended, and when one became due.
const (
	lastSync   = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
	lastQueued = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds"
)

// settle returns when each proxy has written all that there is. A proxy that is ready may be far from it: kube-proxy's ipvs mode takes
// minutes here, and does one family after the other. Its metrics do not tell what a sync has written, as changes may come during one. So
// it gets a change twice: the sync that has the second one began when the sync that has the first one had ended.
func (b *bed) settle(ctx context.Context) error {
	for range 2 {
		since, next := time.Now(), time.Time{}
		err := b.until(ctx, "all proxies have written what they know", func() (bool, error) {
			due, ended, err := b.haveSynced(ctx, since)
			if now := time.Now(); !due && now.After(next) { // a family that has not begun yet takes no note of a change
				next = now.Add(10 * time.Second)
				err = errors.Join(err, b.change(ctx))
			}
			return ended, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// change makes a Service of both families, which all proxies have to look at.
func (b *bed) change(ctx context.Context) error {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "change-", Namespace: metav1.NamespaceDefault},
		Spec:       corev1.ServiceSpec{IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack), Ports: []corev1.ServicePort{{Port: 80}}},
	}
	_, err := b.client.CoreV1().Services(metav1.NamespaceDefault).Create(ctx, service, metav1.CreateOptions{})
	return err
}

// haveSynced reports whether, for each node's proxy, a sync became due after that moment, and whether it has ended.
func (b *bed) haveSynced(ctx context.Context, since time.Time) (due, ended bool, err error) {
	pods := b.client.CoreV1().Pods(metav1.NamespaceSystem)
	list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: aProxy})
	if err != nil || len(list.Items) < b.count {
		return false, false, err
	}
	due, ended = true, true
	for _, pod := range list.Items {
		text, err := pods.ProxyGet("http", pod.Name, strconv.Itoa(metricsPort), "metrics", nil).DoRaw(ctx)
		if err != nil {
			return false, false, err
		}
		itsDue, itsEnded, err := hasSynced(string(text), since)
		if err != nil {
			return false, false, err
		}
		due, ended = due && itsDue, ended && itsEnded
	}
	return due, ended, nil
}

// hasSynced reports whether a proxy's metrics say that in both families a sync became due after that moment, and whether it has ended.
func hasSynced(metrics string, since time.Time) (due, ended bool, err error) {
	families, err := child.MetricFamilies(metrics)
	if err != nil {
		return false, false, fmt.Errorf("metrics: %w", err)
	}
	syncs, queued := byLabel(families[lastSync]), byLabel(families[lastQueued])
	due, ended = len(queued) == 2, true
	for label, at := range queued {
		due = due && at >= float64(since.UnixNano())/1e9
		ended = ended && syncs[label] >= at // none is 0
	}
	return due, due && ended, nil
}

// byLabel returns the values of a gauge with one label.
func byLabel(family *dto.MetricFamily) map[string]float64 {
	values := map[string]float64{}
	for _, m := range family.GetMetric() {
		for _, label := range m.GetLabel() {
			values[label.GetValue()] = m.GetGauge().GetValue()
		}
	}
	return values
}
