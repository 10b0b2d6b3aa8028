package kube

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	typed "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// A Connection configures the connection to the API server. Without Kubeconfig and Master it is that of the cluster in
// which this pod runs.
type Connection struct {
	Kubeconfig string // path of a kubeconfig file
	Master     string // URL that takes precedence over the file's
	Kubelet    string // path of the kubelet's kubeconfig, which has the API server's address, for the cluster in which this pod runs

	QPS         float32 // average requests per second; 0: client-go's default; negative: unlimited
	Burst       int     // requests at once; 0: client-go's default
	ContentType string  // of requests, and preferred for responses; "": protobuf
	Accept      string  // content types of responses; "": ContentType, or else JSON

	Version string // of this program, for the user agent
}

// Client returns a client for the API server. It sends nothing yet.
func (c Connection) Client() (kubernetes.Interface, error) {
	cfg, err := c.Config()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client for the API server: %w", err)
	}
	return client, nil
}

// Events returns a client for Events without a limit of its own: the Source limits their rate.
func (c Connection) Events() (typed.EventsV1Interface, error) {
	c.QPS = -1
	client, err := c.Client()
	if err != nil {
		return nil, err
	}
	return client.EventsV1(), nil
}

// Config returns the client's configuration.
func (c Connection) Config() (*rest.Config, error) {
	cfg, err := c.load()
	if err != nil {
		return nil, fmt.Errorf("configuration for the API server: %w", err)
	}
	cfg.QPS, cfg.Burst = c.QPS, c.Burst
	cfg.UserAgent = "kube-ipvs/" + c.Version
	cfg.ContentType = c.ContentType
	if cfg.ContentType == "" {
		cfg.ContentType = runtime.ContentTypeProtobuf
	}
	if cfg.AcceptContentTypes = c.Accept; c.Accept != "" {
		return cfg, nil
	}
	cfg.AcceptContentTypes = cfg.ContentType
	if cfg.ContentType != runtime.ContentTypeJSON {
		cfg.AcceptContentTypes += "," + runtime.ContentTypeJSON
	}
	return cfg, nil
}

func (c Connection) load() (*rest.Config, error) {
	if c.Kubeconfig == "" && c.Master == "" {
		return inCluster(c.Kubelet)
	}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: c.Kubeconfig},
		&clientcmd.ConfigOverrides{ClusterInfo: clientcmdapi.Cluster{Server: c.Master}},
	).ClientConfig()
}
