package manifest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source"
	"kube-ipvs/sync/source/sourcetest"
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

// nothing demands that no call comes until everything written so far has been read.
func nothing(t *testing.T, calls sourcetest.Recorder) {
	t.Helper()
	calls.Nothing(t, 4*debounce)
}

// run runs a source on a directory, for the node n1, until the test ends.
func run(t *testing.T, dir string) (*Source, sourcetest.Recorder) {
	t.Helper()
	calls := sourcetest.NewRecorder()
	return runFor(t, dir, calls, calls.Problems), calls
}

func runFor(t *testing.T, dir string, h source.Handler, problems source.Problems) *Source {
	t.Helper()
	s := New(dir, "n1", h, problems)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// A dir is a directory for a test to write to.
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
