package manifest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kube-ipvs/sync/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const web = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.10
  ports: [{name: http, port: 80}]
`

const api = `
apiVersion: v1
kind: Service
metadata: {name: api, namespace: prod}
spec:
  clusterIP: 10.96.0.11
  ports: [{name: http, port: 80}]
`

const webSlice = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.1]}]
`

var (
	nameOfWeb = plan.Name{Namespace: "default", Name: "web"}
	nameOfAPI = plan.Name{Namespace: "prod", Name: "api"}
)

// A heard is a Sink that writes down what it is told.
type heard chan string

func (h heard) Synced()                    { h <- "synced" }
func (h heard) ServiceChanged(n plan.Name) { h <- n.String() }
func (h heard) NodeChanged()               { h <- "node" }
func (h heard) ProblemsChanged()           { h <- "problems" }

// next demands what the sink is told next.
func (h heard) next(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-h:
			if got != w {
				t.Fatalf("told %q, want %q", got, w)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("told nothing, want %q", w)
		}
	}
}

// nothing demands that the sink is told nothing until all that was written so far has been read.
func (h heard) nothing(t *testing.T) {
	t.Helper()
	select {
	case got := <-h:
		t.Fatalf("told %q, want nothing", got)
	case <-time.After(4 * settle):
	}
}

// run runs a source on a folder, for the node n1, until the test ends.
func run(t *testing.T, dir string) (*Source, heard) {
	t.Helper()
	told := make(heard, 100)
	s := New(dir, "n1", told)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return s, told
}

// A dir is a folder that a test writes to.
type dir struct {
	*testing.T
	path string
}

func newDir(t *testing.T) dir { return dir{t, t.TempDir()} }

func (d dir) done(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func (d dir) file(name string) string { return filepath.Join(d.path, name) }

// write puts a whole file in place.
func (d dir) write(name, content string) {
	d.Helper()
	const temporary = ".temporary.yaml"
	d.done(os.WriteFile(d.file(temporary), []byte(content), 0o600))
	d.rename(temporary, name)
}

func (d dir) remove(name string) {
	d.Helper()
	d.done(os.RemoveAll(d.file(name)))
}

func (d dir) rename(from, to string) {
	d.Helper()
	d.done(os.Rename(d.file(from), d.file(to)))
}
