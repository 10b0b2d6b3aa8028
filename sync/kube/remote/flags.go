// Package remote reaches the kube-ipvs of each node from outside, through the API server: with a kubeconfig, as kubectl does.
package remote

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // the ways of kubeconfig files to authenticate
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Flags are kubectl's flags of a connection, and where the pods of kube-ipvs are.
type Flags struct {
	kubeconfig string
	overrides  clientcmd.ConfigOverrides
	pods       pods
}

// pods tell where kube-ipvs runs.
type pods struct{ namespace, selector, container, socket string }

// defaultTimeout is that of a request without --request-timeout: kubectl's is none, but one node must not hold up the others.
const defaultTimeout = 10 * time.Second

// Add declares the flags. Client-go declares kubectl's, but for --kubeconfig.
func (f *Flags) Add(fs *pflag.FlagSet) {
	fs.StringVar(&f.kubeconfig, clientcmd.RecommendedConfigPathFlag, "", "Path of the kubeconfig file. Without it: $KUBECONFIG, or else ~/.kube/config.")
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.AuthOverrideFlags.Username.LongName, names.AuthOverrideFlags.Password.LongName = "", "" // no API server takes them
	names.ClusterOverrideFlags.APIServer.ShortName = "s"
	names.Timeout.Description = fmt.Sprintf("How long to wait for a single answer. 0: %v.", defaultTimeout)
	names.ContextOverrideFlags.Namespace.Description = "Namespace of the Services. Without it: that of the context."
	clientcmd.BindOverrideFlags(&f.overrides, fs, names)
	fs.StringVar(&f.pods.namespace, "pods-namespace", "kube-system", "Namespace of the pods of kube-ipvs.")
	fs.StringVar(&f.pods.selector, "pods-selector", "app.kubernetes.io/name=kube-ipvs", "Labels of the pods of kube-ipvs.")
	fs.StringVar(&f.pods.container, "pods-container", "kube-ipvs", "Name of their container.")
	fs.StringVar(&f.pods.socket, "pods-socket", "", "Path of the socket at which they answer, if kube-ipvs has another --socket than by default.")
}

func (f *Flags) config() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &f.overrides)
}

// Namespace returns the namespace of --namespace or of the context, and whether it is the flag's.
func (f *Flags) Namespace() (name string, isGiven bool, err error) {
	name, _, err = f.config().Namespace()
	return name, f.overrides.Context.Namespace != "", err
}

// Connect returns the cluster that the flags name. It sends nothing yet. Version is the program's, for the user agent.
func (f *Flags) Connect(version string) (*Cluster, error) {
	cfg, err := f.config().ClientConfig()
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = "kubectl-ipvs/" + version
	c := &Cluster{config: cfg, pods: f.pods, timeout: cfg.Timeout}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	cfg.Timeout = 0 // requests have deadlines; a client's timeout would also end an answer that is being read
	if c.nodes, err = metadata.NewForConfig(cfg); err != nil {
		return nil, err
	}
	typed := rest.CopyConfig(cfg)
	typed.ContentType, typed.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	c.client, err = kubernetes.NewForConfig(typed)
	return c, err
}
