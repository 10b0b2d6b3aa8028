package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kube-ipvs/test/kept"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A replacement is what probers saw while one proxy took the other's place on one node after the other, and back.
type replacement struct {
	From     string // the proxy that was replaced, and came back
	To       string
	Commit   string // the last that changed the program under test
	In, Back seen
}

// replaced are the proxies that are replaced by the one that is replacing.
var replaced = []string{"iptables", "ipvs"}

const replacing = "divert"

// beforeNext is how long a node serves before the next one's turn.
const beforeNext = 5 * time.Second

// replaceAll replaces kube-proxy in both of its older modes by kube-ipvs, and back.
func (o options) replaceAll(ctx context.Context) error {
	to, err := proxyNamed(replacing)
	if err != nil {
		return err
	}
	commit, err := lastCommit(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range replaced {
		r := replacement{From: name, To: to.name, Commit: commit}
		err := o.replace(ctx, &r, to)
		if err == nil {
			err = errors.Join(r.save(o.state), r.judge())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("from %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (o options) replace(ctx context.Context, r *replacement, to proxy) (err error) {
	s := setting{bin: o.bin, state: filepath.Join(o.state, "rolling", r.From), name: r.From, count: fewNodes}
	b, err := startBed(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	fmt.Printf("%s: the cluster is up\n", r.From)
	sets := b.client.AppsV1().DaemonSets(metav1.NamespaceSystem)
	if _, err := sets.Create(ctx, to.daemonSet(b.setting), metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := b.serve(ctx); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	if r.In, err = b.watched(ctx, func(n node) error { return b.moveTo(ctx, n, to.name) }); err != nil {
		return fmt.Errorf("on the way in: %w", err)
	}
	fmt.Printf("%s to %s: %+v; to a pod: %+v\n", r.From, to.name, r.In.services(), r.In.past())
	r.Back, err = b.watched(ctx, func(n node) error {
		if err := b.handBack(ctx, n, to, r.From); err != nil {
			return err
		}
		return b.moveTo(ctx, n, r.From)
	})
	if err != nil {
		return fmt.Errorf("on the way back: %w", err)
	}
	fmt.Printf("%s to %s: %+v; to a pod: %+v\n", to.name, r.From, r.Back.services(), r.Back.past())
	return errors.Join(b.handedBack(ctx), b.crashes(ctx))
}

// watched moves every node in turn while probers watch.
func (b *bed) watched(ctx context.Context, move func(node) error) (seen, error) {
	p, err := b.startProbers(ctx)
	if err != nil {
		return nil, err
	}
	time.Sleep(beforeNext)
	for _, n := range b.nodes() {
		start := time.Now()
		if err := move(n); err != nil {
			return nil, fmt.Errorf("%s: %w", n.name, err)
		}
		fmt.Printf("  %s moved in %.0f s\n", n.name, time.Since(start).Seconds())
		time.Sleep(beforeNext)
	}
	return p.end(ctx)
}

// moveTo makes the node ask for another proxy, and returns when that serves there, as users do: docs/migrate.md.
func (b *bed) moveTo(ctx context.Context, n node, name string) error {
	label := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, proxyLabel, name)
	if _, err := b.client.CoreV1().Nodes().Patch(ctx, n.name, types.MergePatchType, []byte(label), metav1.PatchOptions{}); err != nil {
		return err
	}
	return b.until(ctx, name+" alone is on "+n.name, func() (bool, error) {
		list, err := b.client.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{
			LabelSelector: aProxy, FieldSelector: "spec.nodeName=" + n.name,
		})
		return err == nil && len(list.Items) == 1 && list.Items[0].Labels[proxyLabel] == name && podReady(list.Items[0]), err
	})
}

func podReady(pod corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// handBack starts on the node what gives it back to kube-proxy, which ends when kube-proxy serves and IPVS has no connections.
func (b *bed) handBack(ctx context.Context, n node, ours proxy, mode string) error {
	c := container("hand-back", b.setting, filepath.Join(b.bin, ours.program), "hand-back", mode, "--wait=10m")
	spec := nodePod(b.setting, c)
	spec.NodeName, spec.RestartPolicy = n.name, corev1.RestartPolicyNever
	pods := b.client.CoreV1().Pods(metav1.NamespaceSystem)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "hand-back-" + n.name, Labels: map[string]string{"app": "hand-back"}}, Spec: spec}
	if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return err
	}
	return b.until(ctx, "the hand-back of "+n.name+" waits", func() (bool, error) {
		pod, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
		return err == nil && podReady(*pod), err
	})
}

// handedBack returns when every hand-back has ended well.
func (b *bed) handedBack(ctx context.Context) error {
	return b.until(ctx, "all nodes are handed back", func() (bool, error) {
		list, err := b.client.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: "app=hand-back"})
		if err != nil {
			return false, err
		}
		for _, pod := range list.Items {
			if pod.Status.Phase != corev1.PodSucceeded {
				return false, fmt.Errorf("%s is %s", pod.Name, pod.Status.Phase)
			}
		}
		return len(list.Items) == b.count, nil
	})
}

func (r replacement) file(state string) string {
	return filepath.Join(state, "rolling", r.From+".json")
}

func (r replacement) save(state string) error { return kept.Write(r.file(state), r) }

// loadReplacements returns the last ones.
func (o options) loadReplacements() ([]replacement, error) {
	var list []replacement
	for _, name := range replaced {
		r := replacement{From: name}
		err := kept.Read(r.file(o.state), &r)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

const replacementsHead = `
## Rolling replacement

` + "`make rolling`" + `: three nodes change from kube-proxy to kube-ipvs, one after the other, as
[migrate.md](migrate.md#with-a-daemonset-kubeadm-kubespray-managed-add-ons) has it, and back. Meanwhile probers in a pod of each node, on each
node and outside keep a connection each to cluster IPs, node ports and load balancers of Services with both policies, over TCP and UDP
and both families, and begin %d new ones a second. "To a pod" is the same past all proxies, so that what goes wrong there is the
machine's fault; a late connection took a second and more.

| from | to | of | connections kept | broken | new | failed | late | longest | to a pod: kept, broken | new, failed, late |
|---|---|---|---|---|---|---|---|---|---|---|
`

// writeReplacements writes the section about replacements, if there are any.
func writeReplacements(b *strings.Builder, list []replacement) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, replacementsHead, newEverySecond)
	row := func(from, to, of string, s seen) {
		c, past := s.services(), s.past()
		fmt.Fprintf(b, "| %s | %s | %s | %d | %d | %d | %d | %d | %.1f s | %d, %d | %d, %d, %d |\n", from, to, of,
			c.Held, c.Broken, c.New, c.Failed, c.Late, c.Longest.Seconds(), past.Held, past.Broken, past.New, past.Failed, past.Late)
	}
	for _, r := range list {
		theirs := "kube-proxy, " + r.From
		row(theirs, "kube-ipvs", r.Commit, r.In)
		row("kube-ipvs", theirs, r.Commit, r.Back)
	}
}

// judge returns an error if anything went wrong for a client.
func (r replacement) judge() error {
	var errs []error
	for way, s := range map[string]seen{"in": r.In, "back": r.Back} {
		if c := s.services(); c.Broken+c.Failed > 0 {
			errs = append(errs, fmt.Errorf("on the way %s: %+v", way, c))
		}
	}
	return errors.Join(errs...)
}
