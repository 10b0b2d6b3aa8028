package kube

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/cert"
)

// errClusterIP is the answer to a pod that has no other address of the API server than the cluster IP: only a service proxy makes
// that reachable, and this is the service proxy.
var errClusterIP = errors.New("that is a cluster IP, which works only while a service proxy runs: give --kubelet-kubeconfig, " +
	"or KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT of the API server itself or of a load balancer before it")

// inCluster returns the configuration of the pod's service account.
func inCluster(kubelet string) (*rest.Config, error) {
	cfg, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	if err := locate(cfg, kubelet); err != nil {
		return nil, err
	}
	return cfg, nil
}

// locate makes sure that the configuration has an address of the API server that works without a service proxy: that of the
// kubelet's kubeconfig if its path is given, or else the environment's unless it is the cluster IP.
func locate(cfg *rest.Config, kubelet string) error {
	switch {
	case kubelet != "":
		if err := takeServer(cfg, kubelet); err != nil {
			return fmt.Errorf("--kubelet-kubeconfig=%s: %w", kubelet, err)
		}
	case isClusterIP(os.Getenv("KUBERNETES_SERVICE_HOST")):
		return fmt.Errorf("%s: %w", cfg.Host, errClusterIP)
	}
	return nil
}

// isClusterIP reports whether a host is the cluster IP of the Service default/kubernetes, which the kubelet gives each pod in
// KUBERNETES_PORT, too. Who overrides KUBERNETES_SERVICE_HOST leaves that alone.
func isClusterIP(host string) bool {
	u, err := url.Parse(os.Getenv("KUBERNETES_PORT"))
	return err == nil && host != "" && u.Hostname() == host
}

// takeServer takes the API server's address from a kubeconfig, and its certificate authority if the file contains one that the service
// account lacks. A path of the authority is the node's and not the container's; then the service account's counts, too. Credentials are
// not looked at.
func takeServer(cfg *rest.Config, path string) error {
	file, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return err
	}
	context := file.Contexts[file.CurrentContext]
	if context == nil {
		return fmt.Errorf("there is no context %q", file.CurrentContext)
	}
	cluster := file.Clusters[context.Cluster]
	if cluster == nil || cluster.Server == "" {
		return fmt.Errorf("the cluster %q has no server", context.Cluster)
	}
	cfg.Host, cfg.ServerName = cluster.Server, cluster.TLSServerName
	if authority := cluster.CertificateAuthorityData; len(authority) > 0 && !trusts(cfg.CAFile, authority) {
		cfg.CAData, cfg.CAFile = authority, ""
	}
	return nil
}

// trusts reports whether a file has all certificates of an authority. The file is worth more: client-go reads it again, and so follows
// when the cluster's authority is replaced.
func trusts(file string, authority []byte) bool {
	has, err := cert.CertsFromFile(file)
	if err != nil {
		return false
	}
	wants, err := cert.ParseCertsPEM(authority)
	return err == nil && !slices.ContainsFunc(wants, func(c *x509.Certificate) bool { return !slices.ContainsFunc(has, c.Equal) })
}
