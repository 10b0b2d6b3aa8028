package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// An authority issues certificates. All that it issues lives for a day.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// A keyPair is a certificate and its private key, in PEM.
type keyPair struct{ certificate, key []byte }

func newAuthority() (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := newTemplate(pkix.Name{CommonName: "authority of a test"})
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{certificate, key}, err
}

// pem returns the authority's certificate.
func (a *authority) pem() []byte { return encode("CERTIFICATE", a.certificate.Raw) }

// issueServer issues a certificate for a server at the addresses.
func (a *authority) issueServer(addresses ...net.IP) (keyPair, error) {
	template := newTemplate(pkix.Name{CommonName: "server of a test"})
	template.IPAddresses = addresses
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return a.issue(template)
}

// issueClient issues a certificate for a user. The API server takes the user's name from the common name and the groups
// from the organizations.
func (a *authority) issueClient(user string, groups ...string) (keyPair, error) {
	template := newTemplate(pkix.Name{CommonName: user, Organization: groups})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(template)
}

func (a *authority) issue(template *x509.Certificate) (keyPair, error) {
	key, err := newKey()
	if err != nil {
		return keyPair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return keyPair{}, err
	}
	keyPEM, err := encodeKey(key)
	return keyPair{encode("CERTIFICATE", der), keyPEM}, err
}

// writeKeys writes the API server's keys to the cluster's folder.
func (c *Cluster) writeKeys() error {
	// The first address of the range is that of the Service default/kubernetes.
	kubernetes := netip.MustParsePrefix(ServiceCIDR4).Addr().Next()
	server, err := c.authority.issueServer(net.ParseIP(c.port.host), kubernetes.AsSlice())
	if err != nil {
		return err
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	tokens, err := encodeKey(key)
	if err != nil {
		return err
	}
	files := map[string][]byte{
		authorityFile:   c.authority.pem(),
		certificateFile: server.certificate,
		keyFile:         server.key,
		tokenKeyFile:    tokens,
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(c.dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func newTemplate(subject pkix.Name) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      subject,
		NotBefore:    now.Add(-time.Minute), // another kernel's clock may be behind
		NotAfter:     now.Add(24 * time.Hour),
	}
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	return encode("EC PRIVATE KEY", der), err
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
