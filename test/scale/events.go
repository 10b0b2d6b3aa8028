package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sliceSizes are the endpoints of slices whose changes are measured. The smallest is not delivered to watchers.
var sliceSizes = []int{1, 10, endpoints, most}

const (
	watchers    = 100    // nodes that hear of each change
	deliveries  = 200    // changes
	sliceOfSize = 60_000 // the number that its endpoints have their addresses by
)

// events measures what a change costs by the size of its slice: a node, and the API server for each node that hears of it.
func (b *bed) events(ctx context.Context) (events []changed, sent []delivery, err error) {
	progress("events")
	for _, size := range sliceSizes {
		if err := b.oneSlice(ctx, size); err != nil {
			return nil, nil, err
		}
	}
	n, err := b.startNode(ctx, true)
	if err != nil {
		return nil, nil, err
	}
	for _, size := range sliceSizes {
		c, err := b.changes(ctx, n, sizedName(size), eventChanges)
		if err != nil {
			return nil, nil, errors.Join(err, n.End())
		}
		events = append(events, c)
	}
	if err := errors.Join(n.End(), b.settle(ctx)); err != nil {
		return nil, nil, err
	}
	for _, size := range sliceSizes[1:] {
		d, err := b.deliver(ctx, size)
		if err != nil {
			return nil, nil, err
		}
		sent = append(sent, d)
	}
	return events, sent, nil
}

func sizedName(size int) string { return "slice-of-" + strconv.Itoa(size) }

// oneSlice makes a Service with one slice of so many endpoints. The slice has the Service's name.
func (b *bed) oneSlice(ctx context.Context, size int) error {
	svc, err := b.client.CoreV1().Services(namespace).Create(ctx, service(sizedName(size)), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = b.client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, slice(svc, sliceOfSize+size, size), metav1.CreateOptions{})
	return err
}

// deliver changes a slice with nobody watching, and with many: the difference is what it takes to tell them.
func (b *bed) deliver(ctx context.Context, size int) (d delivery, err error) {
	d.Endpoints = size
	list, err := b.client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + sizedName(size)})
	if err != nil {
		return d, err
	}
	if len(list.Items) != 1 {
		return d, fmt.Errorf("%d slices of %s, want 1", len(list.Items), sizedName(size))
	}
	name := list.Items[0].Name
	alone, err := b.served(func() error { return change(ctx, b.client, name, deliveries) })
	if err != nil {
		return d, err
	}
	w, err := begin(ctx, "watchers", "-kubeconfig", b.kubeconfig, "-watchers", strconv.Itoa(watchers))
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, w.End()) }()
	before, err := w.quiet(ctx)
	if err != nil {
		return d, err
	}
	var after reading
	watched, err := b.served(func() (err error) {
		if err := change(ctx, b.client, name, deliveries); err != nil {
			return err
		}
		after, err = w.quiet(ctx)
		return err
	})
	if err != nil {
		return d, err
	}
	const all = watchers * deliveries
	d.Bytes, d.ServerCPU = float64(after.In-before.In)/all, (watched-alone)/all
	return d, nil
}
