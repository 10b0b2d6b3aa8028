package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"kube-ipvs/test/cluster"
)

// rollouts are measured: pods one by one, and a quarter at a time, which is the most that a Deployment adds unless it is told
// otherwise.
var rollouts = []rollout{{Pods: 25, Batch: 1}, {Pods: 1000, Batch: 250}}

// measureRollouts replaces the pods of Services, with Kubernetes' own EndpointSlice controller.
func measureRollouts(ctx context.Context) (all []rollout, err error) {
	err = onBed(ctx, func(b *bed) error {
		if err := b.startController(ctx); err != nil {
			return err
		}
		for _, r := range rollouts {
			progress("rollout of %d pods", r.Pods)
			r, err := b.rollout(ctx, r)
			if err != nil {
				return fmt.Errorf("of %d pods: %w", r.Pods, err)
			}
			all = append(all, r)
		}
		return nil
	})
	return all, err
}

// startController starts the EndpointSlice controller, whose requests nothing limits but the API server.
func (b *bed) startController(ctx context.Context) error {
	program, err := cluster.Build(ctx, "kube-controller-manager")
	if err != nil {
		return err
	}
	_, err = b.cluster.Run("kube-controller-manager", filepath.Dir(b.kubeconfig), program, "--kubeconfig="+b.kubeconfig, "--leader-elect=false",
		"--controllers=endpointslice-controller", "--kube-api-qps=1000", "--kube-api-burst=1000", "--secure-port=0")
	return err
}

// A deployment is a Service whose pods are replaced.
type deployment struct {
	client kubernetes.Interface
	name   string
	slices cache.Store
	events atomic.Int64
}

func (b *bed) rollout(ctx context.Context, r rollout) (_ rollout, err error) {
	d := &deployment{client: b.client, name: fmt.Sprintf("rollout-%d", r.Pods)}
	if _, err := b.client.CoreV1().Services(namespace).Create(ctx, service(d.name), metav1.CreateOptions{}); err != nil {
		return r, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := d.watch(ctx); err != nil {
		return r, err
	}
	if err := d.replace(ctx, r.Pods, 0, none); err != nil {
		return r, err
	}
	n, err := b.startNode(ctx, true)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, n.End()) }()
	before, err := n.quiet(ctx)
	if err != nil {
		return r, err
	}
	d.events.Store(0)
	for at := 0; at < r.Pods; at += r.Batch {
		if err := d.replace(ctx, r.Batch, r.Pods+at, at); err != nil {
			return r, err
		}
	}
	after, err := n.quiet(ctx)
	r.Events, r.Bytes = float64(d.events.Load()), float64(after.In-before.In)
	return r, err
}

// watch counts changes of the Service's slices, until the context ends.
func (d *deployment) watch(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(d.client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.LabelSelector = discoveryv1.LabelServiceName + "=" + d.name
	}))
	informer := factory.Discovery().V1().EndpointSlices().Informer()
	count := func() { d.events.Add(1) }
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { count() }, UpdateFunc: func(any, any) { count() }, DeleteFunc: func(any) { count() },
	})
	d.slices = informer.GetStore()
	factory.StartWithContext(ctx)
	return err
}

// A census counts the endpoints of a Service.
type census struct{ ready, others int }

func (d *deployment) census() (c census) {
	for _, obj := range d.slices.List() {
		for _, e := range obj.(*discoveryv1.EndpointSlice).Endpoints {
			if e.Conditions.Ready != nil && *e.Conditions.Ready {
				c.ready++
			} else {
				c.others++
			}
		}
	}
	return c
}

// reach does something to pods, all at once, and waits until the slices have it.
func (d *deployment) reach(ctx context.Context, from, count int, want census, do func(ctx context.Context, pod int) error) error {
	parts, inner := errgroup.WithContext(ctx)
	parts.SetLimit(writers)
	for pod := from; pod < from+count; pod++ {
		parts.Go(func() error { return do(inner, pod) })
	}
	if err := parts.Wait(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for d.census() != want {
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("%+v endpoints, want %+v: %w", d.census(), want, err)
		}
	}
	return nil
}

// none is the number of no pod.
const none = -1

// replace starts pods, and ends as many others, unless their number is none. A new one has an address first, and is ready later; an
// old one terminates, its containers end, and it is gone.
func (d *deployment) replace(ctx context.Context, count, added, removed int) error {
	end := func(seconds int64) func(context.Context, int) error {
		return func(ctx context.Context, n int) error {
			return d.client.CoreV1().Pods(namespace).Delete(ctx, d.pod(n).Name, metav1.DeleteOptions{GracePeriodSeconds: &seconds})
		}
	}
	has := d.census()
	for _, step := range []struct {
		from int
		then census
		do   func(context.Context, int) error
	}{
		{added, census{has.ready, count}, d.start},
		{added, census{has.ready + count, 0}, d.status(corev1.PodRunning, true)},
		{removed, census{has.ready, count}, end(30)},
		{removed, census{has.ready, 0}, d.status(corev1.PodSucceeded, false)},
		{removed, census{has.ready, 0}, end(0)},
	} {
		if step.from == none {
			return nil
		}
		if err := d.reach(ctx, step.from, count, step.then, step.do); err != nil {
			return err
		}
	}
	return nil
}

// start makes a pod with an address.
func (d *deployment) start(ctx context.Context, n int) error {
	if _, err := d.client.CoreV1().Pods(namespace).Create(ctx, d.pod(n), metav1.CreateOptions{}); err != nil {
		return err
	}
	return d.status(corev1.PodRunning, false)(ctx, n)
}

func (d *deployment) pod(n int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-7c5ddbdf54-%05d", d.name, n), Labels: map[string]string{"app": d.name}},
		Spec:       corev1.PodSpec{NodeName: nodeName(n % len(zones)), Containers: []corev1.Container{{Name: "server", Image: "server"}}},
	}
}

// status returns what writes a pod's status as the kubelet does.
func (d *deployment) status(phase corev1.PodPhase, ready bool) func(context.Context, int) error {
	condition := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse}
	if ready {
		condition.Status = corev1.ConditionTrue
	}
	return func(ctx context.Context, n int) error {
		address := fmt.Sprintf("10.244.%d.%d", n>>8, n&0xff)
		pod := d.pod(n)
		pod.Status = corev1.PodStatus{Phase: phase, Conditions: []corev1.PodCondition{condition}, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}}
		_, err := d.client.CoreV1().Pods(namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		return err
	}
}
