//go:build kernel

package survive

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cluster is what a proxy needs to know of the cluster itself.
const cluster = `
apiVersion: v1
kind: Node
metadata: {name: node1}
status: {addresses: [{type: InternalIP, address: 192.168.77.11}, {type: InternalIP, address: "fd00:192:168:77::11"}]}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/12, "fd00:10:96::/112"]}
`

// A folder is the folder of manifests that the program watches.
type folder struct {
	t   *testing.T
	dir string
}

// newFolder makes an empty folder, in memory: the file system that user-mode Linux shares with the machine tells nobody
// about changes.
func newFolder(t *testing.T) folder {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "manifests-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	return folder{t, dir}
}

// write replaces a file in one step: nobody reads half of it.
func (f folder) write(name, text string) {
	f.t.Helper()
	draft := filepath.Join(f.dir, "."+name)
	check(f.t, os.WriteFile(draft, []byte(text), 0o644))
	check(f.t, os.Rename(draft, filepath.Join(f.dir, name)))
}

func (f folder) remove(name string) {
	f.t.Helper()
	check(f.t, os.Remove(filepath.Join(f.dir, name)))
}

// A service is a dual-stack Service with a file of its own.
type service struct {
	n     int
	local bool // its external policy; then it has a node port
}

func (s service) file() string { return fmt.Sprintf("service-%05d.yaml", s.n) }

func (s service) clusterIP(v6 bool) netip.AddrPort {
	if v6 {
		return netip.MustParseAddrPort(fmt.Sprintf("[fd00:10:96::%x]:80", 0x1000+s.n))
	}
	return netip.MustParseAddrPort(fmt.Sprintf("10.96.%d.%d:80", 16+s.n>>8, s.n&0xff))
}

// The conditions of endpoints.
const (
	ready  = "ready: true, serving: true, terminating: false"
	going  = "ready: false, serving: true, terminating: true"
	absent = "ready: false, serving: false, terminating: false"
)

type endpoint struct {
	v4, v6          netip.Addr
	node, condition string
}

// put writes a Service with its endpoints.
func (f folder) put(s service, endpoints ...endpoint) {
	f.t.Helper()
	f.write(s.file(), s.text(endpoints))
}

// text is a Service's manifest.
func (s service) text(endpoints []endpoint) string {
	var out strings.Builder
	spec, port := "", ""
	if s.local {
		spec, port = "type: NodePort, externalTrafficPolicy: Local, ", fmt.Sprintf(", nodePort: %d", 30000+s.n)
	}
	fmt.Fprintf(&out, `{apiVersion: v1, kind: Service, metadata: {name: service-%05d}, spec: {%sclusterIPs: [%v, "%v"], ports: [{port: 80, targetPort: %d%s}]}}`+"\n",
		s.n, spec, s.clusterIP(false).Addr(), s.clusterIP(true).Addr(), podPort, port)
	for _, family := range []string{"IPv4", "IPv6"} {
		fmt.Fprintf(&out, "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: service-%05d-%s, labels: {kubernetes.io/service-name: service-%05[1]d}}, addressType: %[2]s, ports: [{port: %d}], endpoints: [",
			s.n, family, podPort)
		for _, e := range endpoints {
			addr := e.v4
			if family == "IPv6" {
				addr = e.v6
			}
			fmt.Fprintf(&out, `{addresses: ["%v"], nodeName: %s, conditions: {%s}}, `, addr, e.node, e.condition)
		}
		out.WriteString("]}\n")
	}
	return out.String()
}
