package cluster

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// A User is somebody who can prove to the API server who he is. What he may do is up to RBAC.
type User struct{ config *rest.Config }

// Admin returns a user who may do everything.
func (c *Cluster) Admin() (User, error) { return c.User("admin", "system:masters") }

// AdminClient returns a client of the user who may do everything.
func (c *Cluster) AdminClient() (*kubernetes.Clientset, error) {
	admin, err := c.Admin()
	if err != nil {
		return nil, err
	}
	return admin.Client()
}

// User returns the user of that name in those groups, who shows a client certificate.
func (c *Cluster) User(name string, groups ...string) (User, error) {
	pair, err := c.authority.issueClient(name, groups...)
	if err != nil {
		return User{}, err
	}
	config := c.config()
	config.CertData, config.KeyData = pair.certificate, pair.key
	return User{config}, nil
}

// ServiceAccount returns the user that the pods of a service account are, who shows a token. The account must exist.
func (c *Cluster) ServiceAccount(ctx context.Context, namespace, name string) (User, error) {
	client, err := c.AdminClient()
	if err != nil {
		return User{}, err
	}
	answer, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return User{}, fmt.Errorf("token for service account %s/%s: %w", namespace, name, err)
	}
	config := c.config()
	config.BearerToken = answer.Status.Token
	return User{config}, nil
}

// config returns what clients of every user have in common.
func (c *Cluster) config() *rest.Config {
	config := &rest.Config{
		Host:            c.URL(),
		TLSClientConfig: rest.TLSClientConfig{CAData: c.authority.pem()},
		QPS:             -1, // the API server alone says how fast
	}
	if c.namespace != nil {
		config.Dial = c.namespace.dial
	}
	return config
}

// Config returns the configuration of clients that act as the user, also from outside the cluster's namespace. The
// caller may change it.
func (u User) Config() *rest.Config { return rest.CopyConfig(u.config) }

// Client returns a client that acts as the user.
func (u User) Client() (*kubernetes.Clientset, error) { return kubernetes.NewForConfig(u.config) }

// WriteKubeconfig writes a kubeconfig file that is complete in itself, for programs that act as the user. In a cluster
// with a namespace of its own it serves those that run there.
func (u User) WriteKubeconfig(path string) error {
	const name = "test"
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: {
			Server:                   u.config.Host,
			CertificateAuthorityData: u.config.CAData,
		}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{name: {
			ClientCertificateData: u.config.CertData,
			ClientKeyData:         u.config.KeyData,
			Token:                 u.config.BearerToken,
		}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}, path)
}
