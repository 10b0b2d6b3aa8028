package manifest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

var values = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

// read returns the content of a directory with these files.
func read(t *testing.T, files map[string]string) *snapshot {
	t.Helper()
	d := newDir(t)
	for name, content := range files {
		d.write(name, content)
	}
	f := newDirectory(d.path)
	if err := f.read(); err != nil {
		t.Fatal(err)
	}
	return assemble(&f, "n1")
}

func TestDefaults(t *testing.T) {
	got := read(t, map[string]string{"a.yaml": web, "b.yaml": webSlice})
	want := &snapshot{
		services: map[plan.Name]plan.Service{nameOfWeb: {
			Name:       nameOfWeb,
			Ports:      []plan.Port{{Name: "http", Proto: inet.TCP, Port: 80}},
			ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		}},
		slices: map[plan.Name][]plan.Slice{nameOfWeb: {{
			Name:      "web-1",
			Service:   nameOfWeb,
			Family:    inet.IPv4,
			Ports:     []plan.SlicePort{{Name: "http", Proto: inet.TCP, Port: 8080}},
			Endpoints: []plan.Endpoint{{Addr: netip.MustParseAddr("10.1.0.1"), Ready: true, Serving: true}},
		}}},
		node: object.Node{Name: "n1", Eligible: true},
	}
	if diff := cmp.Diff(want, got, values, cmp.AllowUnexported(snapshot{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestWrittenDown(t *testing.T) {
	got := read(t, map[string]string{"a.yaml": `
apiVersion: v1
kind: Service
metadata: {name: web, creationTimestamp: "2026-11-01T12:00:00Z"}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.10, "fd00::a"]
  externalTrafficPolicy: Local
  internalTrafficPolicy: Local
  sessionAffinity: ClientIP
  healthCheckNodePort: 32000
  allocateLoadBalancerNodePorts: false
  ports: [{port: 53, protocol: UDP, targetPort: dns}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.1}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 53, protocol: UDP}]
endpoints: []
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}
---
apiVersion: v1
kind: Node
metadata: {name: n2, labels: {topology.kubernetes.io/zone: b}}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/12]}
`})
	want := plan.Service{
		Name:            nameOfWeb,
		Created:         time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC),
		Ports:           []plan.Port{{Proto: inet.UDP, Port: 53}},
		ClusterIPs:      []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00::a")},
		LoadBalancerIPs: []netip.Addr{netip.MustParseAddr("203.0.113.1")},
		InternalLocal:   true, ExternalLocal: true, Affinity: 3 * time.Hour, HealthCheckNodePort: 32000,
	}
	if diff := cmp.Diff(want, got.services[nameOfWeb], values); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if port := got.slices[nameOfWeb][0].Ports; !slices.Equal(port, []plan.SlicePort{{Proto: inet.UDP, Port: 53}}) {
		t.Errorf("an unnamed port became %v", port)
	}
	if got.node.Zone != "a" || !slices.Equal(got.cidrs, []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}) || len(got.problems) > 0 {
		t.Errorf("node %+v, CIDRs %v, problems %v", got.node, got.cidrs, got.problems)
	}
}

func TestForms(t *testing.T) {
	const jsonWeb = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"clusterIP":"10.96.0.10","ports":[{"port":80}]}}`
	jsonAPI := strings.NewReplacer(`"web"`, `"api","namespace":"prod"`).Replace(jsonWeb)
	list := "apiVersion: v1\nkind: List\nitems:\n- " + jsonWeb + "\n- " + jsonAPI
	for name, files := range map[string]map[string]string{
		"two files":            {"a.yaml": web, "b.yml": api},
		"two documents":        {"a.yaml": web + "---\n" + api},
		"comments and blanks":  {"a.yaml": "# a\n---\n\n---\n# b\n" + web + "--- # c\n" + api + "---\n"},
		"end markers":          {"a.yaml": web + "...\n" + api + "... # over\n---\n"},
		"directives":           {"a.yaml": "%YAML 1.1\n---\n" + web + "...\n%YAML 1.1\n---" + api},
		"text on the marker":   {"a.yaml": web + "--- " + jsonAPI + "\n"},
		"CRLF":                 {"a.yaml": strings.ReplaceAll(web+"---"+api, "\n", "\r\n")},
		"JSON":                 {"a.json": jsonWeb, "b.json": jsonAPI},
		"JSON values in a row": {"a.json": jsonWeb + "\n" + jsonAPI},
		"a list":               {"a.yaml": list},
		"a list in JSON":       {"a.json": `{"apiVersion":"v1","kind":"List","items":[` + jsonWeb + "," + jsonAPI + `]}`},
		"JSON in YAML":         {"a.yaml": jsonWeb + "\n---\n" + jsonAPI},
		"other files beside": {"a.yaml": web, "b.yaml": api,
			"README": "x: [", ".c.yaml.swp": "x: [", ".d.yaml": "x: [", "e.yaml~": "x: ["},
		"headless beside": {"a.yaml": web, "b.yaml": api,
			"c.yaml": "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {clusterIP: None}}"},
		"external name beside": {"a.yaml": web, "b.yaml": api,
			"c.yaml": "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {type: ExternalName, externalName: x.org}}"},
		"as kubectl prints them": {"a.yaml": strings.Replace(web, "name: web",
			"name: web, creationTimestamp: null, managedFields: []", 1) + "status: {loadBalancer: {}}\n---\n" + api},
	} {
		t.Run(name, func(t *testing.T) {
			got := read(t, files)
			if len(got.services) != 2 || got.services[nameOfWeb].Ports[0].Port != 80 || got.services[nameOfAPI].Name != nameOfAPI {
				t.Errorf("got %v", got.services)
			}
			if len(got.problems) > 0 {
				t.Errorf("problems %v", got.problems)
			}
		})
	}
}

// TestMistakes has one file each, and its problems: document, field and reason.
func TestMistakes(t *testing.T) {
	edit := func(old, new string) string { return strings.Replace(web, old, new, 1) }
	for _, c := range []struct {
		name, content string
		want          [][3]string
	}{
		{"unknown field", edit("ports:", "prots:"), [][3]string{{"document 1", "spec.prots", "unknown field"}}},
		{"two unknown fields", edit("name: http", "nam: http, prot: TCP"), [][3]string{
			{"document 1", "spec.ports[0].nam", "unknown field"},
			{"document 1", "spec.ports[0].prot", "unknown field"}}},
		{"empty key", `{apiVersion: v1, kind: Service, "": x}`, [][3]string{{"document 1", ".", `unknown field ""`}}},
		{"field in capitals", edit("clusterIP", "clusterip"), [][3]string{{"document 1", "spec.clusterip", "unknown field"}}},
		{"no cluster IP", edit("clusterIP: 10.96.0.10", ""), [][3]string{{"document 1", "spec.clusterIP",
			"Service default/web has none, and there is no API server that would allocate one: " +
				"write an address, or None for a headless Service"}}},
		{"two cluster IPs", edit("clusterIP: 10.96.0.10", "clusterIP: 10.96.0.10\n  clusterIPs: [10.96.0.11]"), [][3]string{
			{"document 1", "spec.clusterIP", "Service default/web has another address in spec.clusterIPs[0]"}}},
		{"no name", edit("name: web", ""), [][3]string{{"document 1", "metadata.name", "is missing"}}},
		{"a name that is a path", edit("name: web", "name: a/b"), [][3]string{
			{"document 1", "metadata.name", `"a/b" may not contain '/'`}}},
		{"a namespace that is a path", edit("name: web", "name: web, namespace: .."), [][3]string{
			{"document 1", "metadata.namespace", `".." may not be '..'`}}},
		{"no node port", edit("spec:", "spec:\n  type: NodePort"), [][3]string{{"document 1", "spec.ports[0].nodePort",
			"Service default/web has none, and there is no API server that would allocate one"}}},
		{"slice without a Service", strings.Replace(webSlice, "kubernetes.io/service-name", "app", 1), [][3]string{
			{"document 1", "metadata.labels",
				"EndpointSlice default/web-1: has no kubernetes.io/service-name, so it belongs to no Service"}}},
		{"second item of a list", "apiVersion: v1\nkind: List\nitems:\n" +
			"- {apiVersion: v1, kind: Node, metadata: {name: n2}}\n- {apiVersion: v1, kind: Service, x: y}",
			[][3]string{{"document 1, item 2", "x", "unknown field"}}},
		{"a list in a list", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, items: []}]", [][3]string{
			{"document 1, item 1", "kind", "a List in a List is not read"}}},
		{"the same twice", web + "---" + web, [][3]string{
			{"document 2", ".", "Service default/web is in a.yaml: document 1 already"}}},
		{"other kinds, each once", "{apiVersion: apps/v1, kind: Deployment, x: y}\n---\n" +
			"{apiVersion: apps/v1, kind: Deployment}\n---\n{apiVersion: v1, kind: Pod}", [][3]string{
			{"document 1", "kind", "Deployment of apps/v1 is of no use to a proxy; ignored here and in all other documents"},
			{"document 3", "kind", "Pod of v1 is of no use to a proxy; ignored here and in all other documents"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := read(t, map[string]string{"a.yaml": c.content})
			var want []plan.Problem
			for _, w := range c.want {
				want = append(want, plan.Problem{Object: "a.yaml: " + w[0], Field: w[1], Reason: w[2]})
			}
			if diff := cmp.Diff(want, got.problems); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// bomb returns a few lines that are 9⁸ items.
func bomb() string {
	lines := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'h'; c++ {
		lines += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 9))
	}
	return lines
}

// TestUnreadableDocuments has mistakes with the YAML library's messages: they must be reported at their document, and the
// next one must be read.
func TestUnreadableDocuments(t *testing.T) {
	for name, doc := range map[string]string{
		"syntax":             "a: [\n",
		"no kind":            "apiVersion: v1\nmetadata: {}\n",
		"no version":         "kind: Service\n",
		"not an object":      "hello\n",
		"a sequence":         "- a\n- b\n",
		"wrong type":         strings.Replace(web, "port: 80", "port: many", 1),
		"number too large":   strings.Replace(web, "port: 80", "port: 3000000000", 1),
		"key twice":          web + "  clusterIP: 10.96.0.12\n",
		"tab":                "\tkind: Service\n",
		"alias bomb":         bomb(),
		"text on the marker": "--- kind: Service\n",
	} {
		t.Run(name, func(t *testing.T) {
			got := read(t, map[string]string{"a.yaml": webSlice + "---\n" + doc + "---\n" + api})
			if p := got.problems; len(p) != 1 || p[0].Object != "a.yaml: document 2" || p[0].Field == "" || p[0].Reason == "" {
				t.Errorf("problems %v", got.problems)
			}
			if _, ok := got.services[nameOfAPI]; !ok || len(got.services) != 1 || len(got.slices) != 1 {
				t.Errorf("got %v, %v", got.services, got.slices)
			}
		})
	}
}

func TestUnreadableJSON(t *testing.T) {
	got := read(t, map[string]string{"a.json": `
		{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}}}
		{"kind":`})
	if got.node.Zone != "a" || len(got.problems) != 1 || got.problems[0].Object != "a.json: document 2" {
		t.Errorf("node %+v, problems %v", got.node, got.problems)
	}
}
