// Package cluster starts a real Kubernetes control plane for tests: etcd and the API server, with authorization by RBAC
// and Services of both families. Nobody but the test makes objects, as long as it does not call StartControllers.
//
// It needs etcd (Debian's etcd-server), the Go tool, which builds the API server from the module test/kubernetes, and,
// for a network namespace of its own, root and nsenter (Debian's util-linux).
package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// The address ranges from which the API server gives Services their cluster IPs.
const (
	ServiceCIDR4 = "10.96.0.0/16"
	ServiceCIDR6 = "fd00:10:96::/112"
)

// A Config says where the control plane runs. Its zero value means 127.0.0.1 in the current network namespace.
type Config struct {
	// Namespace asks for a network namespace of its own, with the tap device TapName in it. The API server listens on
	// the device's IPv4 address, where a kernel that is attached to the device reaches it, and is what the Service
	// default/kubernetes leads to.
	Namespace bool
	// Pods asks for an API server of a cluster whose pods run: each has a service account, and may be privileged. It takes
	// StartControllers, which make the accounts.
	Pods bool
	// Etcd is the path of etcd's program. Empty: that of $ETCD, or the one that is installed, Debian's.
	Etcd string
}

// A Cluster is a running control plane. Its methods may be called at the same time, but for those that start and stop.
type Cluster struct {
	dir       string     // sockets, keys, data and logs
	port      port       // where the API server listens
	namespace *namespace // nil: the current one
	authority *authority // whom the API server trusts for client certificates, and who vouches for it
	server    string     // the API server's program
	etcd      string     // etcd's
	processes []*process // in the order in which they were started
	beside    []*process // those of StartControllers and Run
	pods      bool       // Config.Pods
}

// serverVariable and etcdVariable name, in the environment, an API server of another version than test/kubernetes asks for, and another
// etcd than the installed one: their paths.
const (
	serverVariable = "KUBE_APISERVER"
	etcdVariable   = "ETCD"
)

// Start builds what is not built yet and starts a control plane. It returns when the API server can serve every request
// a test makes. The context covers the start alone; Close ends what was started. The first build on a machine takes
// minutes, a start some five seconds.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	server := os.Getenv(serverVariable)
	if server == "" {
		var err error
		if server, err = Build(ctx, "kube-apiserver"); err != nil {
			return nil, err
		}
	}
	c := &Cluster{server: server, etcd: cmp.Or(config.Etcd, os.Getenv(etcdVariable), "etcd")}
	if err := c.start(ctx, config); err != nil {
		return nil, errors.Join(fmt.Errorf("start control plane: %w", err), c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, config Config) (err error) {
	if c.dir, err = os.MkdirTemp("", "cluster-"); err != nil {
		return err
	}
	c.pods = config.Pods
	if err := c.place(config); err != nil {
		return err
	}
	if c.authority, err = newAuthority(); err != nil {
		return err
	}
	if err := c.writeKeys(); err != nil {
		return err
	}
	return c.startServers(ctx)
}

func (c *Cluster) startServers(ctx context.Context) error {
	if err := c.run(c.etcd, etcdFlags()...); err != nil {
		return err
	}
	return c.StartServer(ctx)
}

// StartServer starts the API server after StopServer, and returns when it can serve every request again.
func (c *Cluster) StartServer(ctx context.Context) error {
	if err := c.run(c.server, c.serverFlags()...); err != nil {
		return err
	}
	return c.waitReady(ctx)
}

// StopServer ends the API server without warning, as a crash would. What it has stored stays.
func (c *Cluster) StopServer() error {
	last := len(c.processes) - 1 // etcd is the first
	if last < 1 {
		return errors.New("the API server does not run")
	}
	server := c.processes[last]
	c.processes = c.processes[:last]
	return server.kill()
}

// ServerPID returns the process ID of the API server, for what the system knows of it.
func (c *Cluster) ServerPID() int { return c.processes[len(c.processes)-1].command.Process.Pid }

// place decides where the API server listens.
func (c *Cluster) place(config Config) (err error) {
	if !config.Namespace {
		c.port, err = reservePort()
		return err
	}
	c.port = tapPort()
	c.namespace, err = newNamespace()
	return err
}

// run starts a server in the cluster's folder.
func (c *Cluster) run(program string, flags ...string) error {
	p, err := startProcess(filepath.Base(program), c.Command(program, flags...), c.dir)
	if err == nil {
		c.processes = append(c.processes, p)
	}
	return err
}

// Run starts a program where the API server runs. What it prints is in NAME.log in the folder, which must exist; it ends
// with Close at the latest. The channel is closed when it has ended.
func (c *Cluster) Run(name, folder, program string, args ...string) (ended <-chan struct{}, err error) {
	p, err := startProcess(name, c.Command(program, args...), folder)
	if err != nil {
		return nil, err
	}
	c.beside = append(c.beside, p)
	return p.done, nil
}

// waitReady returns when the API server is ready, or with what its processes last said.
func (c *Cluster) waitReady(ctx context.Context) error {
	client, err := c.AdminClient()
	if err != nil {
		return err
	}
	// On two busy cores a start was seen to take half a minute.
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		err := ready(ctx, client)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err, c.lastWords())
		}
		for _, p := range c.processes {
			if p.ended() {
				return c.lastWords()
			}
		}
	}
}

// ready returns nil if the API server serves, and has made the namespaces and service CIDRs that it makes by itself: it
// makes them after it has said that it is ready.
func ready(ctx context.Context, client kubernetes.Interface) error {
	if _, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		return err
	}
	for _, namespace := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
		if _, err := client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{}); err != nil {
			return err
		}
	}
	_, err := client.NetworkingV1().ServiceCIDRs().Get(ctx, "kubernetes", metav1.GetOptions{})
	return err
}

// lastWords returns the end of each process's log as an error.
func (c *Cluster) lastWords() error {
	var errs []error
	for _, p := range c.processes {
		errs = append(errs, p.lastWords())
	}
	return errors.Join(errs...)
}

// URL returns the address of the API server, "https://HOST:PORT". With Config.Namespace it is reachable only from within
// the namespace: by Command, by a kernel on the tap device and by the clients of a User.
func (c *Cluster) URL() string { return "https://" + c.address() }

func (c *Cluster) address() string { return net.JoinHostPort(c.port.host, c.port.number) }

// Command returns a command that runs where the API server runs: in the cluster's network namespace if it has one of its
// own. The process has the program's own pid.
func (c *Cluster) Command(name string, args ...string) *exec.Cmd {
	if c.namespace == nil {
		return exec.Command(name, args...)
	}
	return c.namespace.command(name, args...)
}

// Close ends the processes and removes all that they wrote. The namespace goes with the last process in it.
func (c *Cluster) Close() error {
	var errs []error
	for _, p := range slices.Backward(append(slices.Clone(c.processes), c.beside...)) {
		errs = append(errs, p.kill())
	}
	if c.namespace != nil {
		errs = append(errs, c.namespace.close())
	}
	if c.dir != "" {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	return errors.Join(append(errs, c.port.release())...)
}
