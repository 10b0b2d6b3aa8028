package kube

import (
	// The metrics of client-go's clients, queues and informers, in the registry that Kubernetes's libraries share.
	_ "k8s.io/component-base/metrics/prometheus/clientgo/fifo"
	_ "k8s.io/component-base/metrics/prometheus/restclient"
	_ "k8s.io/component-base/metrics/prometheus/workqueue"
)
