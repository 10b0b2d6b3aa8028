// The program node is a Kubernetes node without containers: the real kubelet, as a library, with a container runtime of its
// own that starts each container's program as a plain process, in the network namespace of its pod.
//
// It runs in a network namespace that stands for the node. What a kubelet asks of cgroups and of cAdvisor is answered by
// the stubs that Kubernetes' own kubemark uses.
package main

import (
	"context"
	"flag"
	"net/netip"
	"runtime"
	"strings"

	"k8s.io/klog/v2"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
)

// The main goroutine keeps the first thread, so that no other one changes that thread's network namespace.
func init() { runtime.LockOSThread() }

// options is the command line.
type options struct {
	name       string
	addresses  string
	pods       []netip.Prefix
	kubeconfig string
	root       string
	programs   string
	dns        string
	labels     map[string]string
}

func main() {
	o := parse()
	if err := o.run(context.Background()); err != nil {
		klog.ErrorS(err, "The node ends")
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}

func parse() options {
	o := options{labels: map[string]string{}}
	klog.InitFlags(nil)
	flag.StringVar(&o.name, "name", "", "the node's `name`")
	flag.StringVar(&o.addresses, "ip", "", "the node's `addresses`, with commas between")
	flag.Func("pods", "the `prefixes` of its pods' addresses, with commas between", func(list string) error {
		for text := range strings.SplitSeq(list, ",") {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				return err
			}
			o.pods = append(o.pods, prefix)
		}
		return nil
	})
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server")
	flag.StringVar(&o.root, "root", "", "`folder` of everything that the node writes, on a tmpfs")
	flag.StringVar(&o.programs, "programs", "", "`folder` of podinit, agnhost and the like")
	flag.StringVar(&o.dns, "dns", "", "`address` of the cluster's DNS")
	flag.Func("labels", "the node's labels, as `KEY=VALUE`, with commas between", func(list string) error {
		for label := range strings.SplitSeq(list, ",") {
			key, value, _ := strings.Cut(label, "=")
			o.labels[key] = value
		}
		return nil
	})
	flag.Parse()
	return o
}

// run starts the kubelet. It does not return if that works.
func (o options) run(ctx context.Context) error {
	settings, err := o.settings()
	if err != nil {
		return err
	}
	tls, err := o.certificate()
	if err != nil {
		return err
	}
	containers, err := newProcesses(o, tls)
	if err != nil {
		return err
	}
	needs, err := o.needs(containers, tls)
	if err != nil {
		return err
	}
	if err := kubeletapp.RunKubelet(ctx, settings, needs); err != nil {
		return err
	}
	select {}
}
