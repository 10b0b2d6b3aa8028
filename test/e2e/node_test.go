//go:build cluster

package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// nodeHost is the node, as the API server and the test reach it; the agent listens there.
const (
	nodeHost     = "172.30.0.2"
	agentAddress = nodeHost + ":8000"
)

// Addresses of the laboratory (test/lab), IPv4 first.
var (
	nodeAddress = addresses("192.168.77.11", "fd00:192:168:77::11")
	podAddress  = map[string][2]netip.Addr{
		"pod1": addresses("10.244.1.11", "fd00:10:244:1::11"), // on node1
		"pod2": addresses("10.244.1.12", "fd00:10:244:1::12"), // on node1
		"pod3": addresses("10.244.2.11", "fd00:10:244:2::11"), // on node2
	}
)

func addresses(v4, v6 string) [2]netip.Addr {
	return [2]netip.Addr{netip.MustParseAddr(v4), netip.MustParseAddr(v6)}
}

// A node is the agent's (test/e2e/agent) other side.
type node struct{ http *http.Client }

// ask sends a request and returns the answer. What the node refuses ends the test.
func (n node) ask(t *testing.T, method, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	must(t, err)
	response, err := n.http.Do(request)
	must(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s: %s", method, url, response.Status, text)
	}
	return string(text)
}

func (n node) get(t *testing.T, path string, query url.Values) string {
	t.Helper()
	return n.ask(t, http.MethodGet, "http://"+agentAddress+path+"?"+query.Encode())
}

func (n node) post(t *testing.T, path string, query url.Values) string {
	t.Helper()
	return n.ask(t, http.MethodPost, "http://"+agentAddress+path+"?"+query.Encode())
}

// start starts kube-ipvs.
func (n node) start(t *testing.T) {
	t.Helper()
	n.post(t, "/start", nil)
}

// end sends kube-ipvs a signal and returns how it ended.
func (n node) end(t *testing.T, signal int) string {
	t.Helper()
	return n.post(t, "/end", url.Values{"signal": {strconv.Itoa(signal)}})
}

func (n node) run(t *testing.T, command string) string {
	t.Helper()
	return n.post(t, "/run", url.Values{"command": {command}})
}

// A frontend is where a Service is reached.
type frontend struct {
	proto string // as IPVS says it: "tcp"
	at    netip.AddrPort
}

func (f frontend) String() string { return fmt.Sprintf("%v/%s", f.at, f.proto) }

// await sends packets from a host to each of the frontends until what comes of them is one of the outcomes that the agent
// has words for, such as "pod1 pod2 saw client" or "refused".
func (n node) await(t *testing.T, from string, to []frontend, outcomes ...string) {
	t.Helper()
	n.expect(t, from, to, settle, outcomes)
}

// still is await without patience: the outcome must be there at once.
func (n node) still(t *testing.T, from string, to []frontend, outcomes ...string) {
	t.Helper()
	n.expect(t, from, to, 0, outcomes)
}

func (n node) expect(t *testing.T, from string, to []frontend, within time.Duration, outcomes []string) {
	t.Helper()
	if len(to) == 0 {
		t.Fatal("no frontend to send packets to")
	}
	for _, f := range to {
		got := n.get(t, "/look", url.Values{
			"from": {from}, "proto": {f.proto}, "to": {f.at.String()}, "within": {within.String()},
			"times": {strconv.Itoa(2 + 2*mostNames(outcomes))}, "want": outcomes,
		})
		if !slices.Contains(outcomes, got) {
			t.Errorf("from %s to %v: %s, want %s", from, f, got, strings.Join(outcomes, " or "))
			t.Logf("%s", n.run(t, "ipvsadm -Ln; ip rule; ip route; tail -5 /run/program.log"))
		}
	}
}

// mostNames is how many servers answer in an outcome, at most: each must be asked.
func mostNames(outcomes []string) int {
	most := 1
	for _, o := range outcomes {
		who, _, _ := strings.Cut(o, " saw ")
		most = max(most, len(strings.Fields(who)))
	}
	return most
}

// A conn is a connection that the node keeps.
type conn struct {
	node node
	name string
}

// open opens a connection from a host.
func (n node) open(t *testing.T, from string, to frontend) conn {
	t.Helper()
	c := conn{n, t.Name()}
	query := url.Values{"name": {c.name}, "from": {from}, "proto": {to.proto}, "to": {to.at.String()}}
	if got := n.post(t, "/open", query); got != "open" {
		t.Fatalf("connect from %s to %v: %s", from, to, got)
	}
	return c
}

// say asks over the connection and returns who answers.
func (c conn) say(t *testing.T) string {
	t.Helper()
	return c.node.post(t, "/say", url.Values{"name": {c.name}})
}
