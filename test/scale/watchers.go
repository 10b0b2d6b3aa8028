package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"kube-ipvs/sync/kube"
	"kube-ipvs/sync/object"
)

// watch is the process of many nodes' watches of slices, each on a connection of its own, as nodes have them. What arrives is
// thrown away. It prints a reading when all watch, and one for each line of input.
func (o options) watch(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts, ctx := errgroup.WithContext(ctx)
	var wire wire
	for range o.watchers {
		body, err := o.stream(ctx, &wire)
		if err != nil {
			return err
		}
		parts.Go(func() error {
			defer body.Close()
			if _, err := io.Copy(io.Discard, body); err != nil {
				return err
			}
			return errors.New("the API server ended a watch")
		})
	}
	parts.Go(func() error {
		defer cancel()
		answers := json.NewEncoder(out)
		for lines := bufio.NewScanner(in); ; {
			if err := answers.Encode(reading{In: wire.in.Load(), Out: wire.out.Load(), Requests: wire.requests.Load()}); err != nil {
				return err
			}
			if !lines.Scan() {
				return lines.Err()
			}
		}
	})
	if err := parts.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// stream opens a watch of slices as the program's informer does, from now on.
func (o options) stream(ctx context.Context, w *wire) (io.ReadCloser, error) {
	config, err := kube.Connection{Kubeconfig: o.kubeconfig, QPS: -1}.Config()
	if err != nil {
		return nil, err
	}
	w.under(config)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	list, err := client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("begin to watch: %w", err)
	}
	return client.DiscoveryV1().RESTClient().Get().Resource("endpointslices").
		Param("watch", "true").Param("allowWatchBookmarks", "true").Param("resourceVersion", list.ResourceVersion).
		Param("labelSelector", "!"+corev1.IsHeadlessService+",!"+object.ProxyNameLabel).Stream(ctx)
}
