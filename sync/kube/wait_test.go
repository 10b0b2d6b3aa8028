package kube

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"

	"kube-ipvs/sync/source/sourcetest"
)

// TestSilentAPIServer: the log says why nothing happens.
func TestSilentAPIServer(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("list", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("nobody listens")
	})
	lines := make(chan string, 100)
	log := funcr.New(func(_, line string) { lines <- line }, funcr.Options{})
	ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), log))
	ended := make(chan error, 1)
	s := New(Config{Client: client, NodeName: "n1", WaitLogInterval: 10 * time.Millisecond}, sourcetest.NewRecorder())
	go func() { ended <- s.Run(ctx) }()
	for told := 0; told < 2; {
		select {
		case line := <-lines:
			if strings.Contains(line, "Waiting for the API server") && strings.Contains(line, "nobody listens") {
				told++
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("told %d times why, want again and again", told)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}
