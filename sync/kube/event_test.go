package kube

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"kube-ipvs/sync/plan"
)

// posted waits for an Event and returns it.
func posted(t *testing.T, client *fake.Clientset) eventsv1.Event {
	t.Helper()
	for range 1000 {
		list, err := client.EventsV1().Events(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) > 0 {
			return list.Items[0]
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no Event")
	return eventsv1.Event{}
}

func TestWarn(t *testing.T) {
	client := fake.NewClientset(node("a"), service("web"))
	s, _ := synced(t, client)
	s.Warn(plan.Name{Namespace: "default", Name: "gone"}, "FrontendConflict", "nobody to tell")
	s.Warn(web, "FrontendConflict", "10.96.0.10:80 is 100% taken")

	got := posted(t, client)
	want := corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: "web", UID: "uid-of-web"}
	if diff := cmp.Diff(want, got.Regarding); diff != "" {
		t.Error(diff)
	}
	if got.Type != "Warning" || got.Reason != "FrontendConflict" || got.Note != "10.96.0.10:80 is 100% taken" ||
		got.Namespace != "default" || got.Action == "" || got.ReportingController != "kube-ipvs" || got.ReportingInstance == "" {
		t.Errorf("got %+v", got)
	}
}

// TestWarnAgain has one conflict reported many times, which is one Event.
func TestWarnAgain(t *testing.T) {
	client := fake.NewClientset(node("a"), service("web"))
	s, _ := synced(t, client)
	for range 20 {
		s.Warn(web, "FrontendConflict", "taken")
	}
	posted(t, client)
	time.Sleep(100 * time.Millisecond)
	created := 0
	for _, action := range client.Actions() {
		if action.Matches("create", "events") {
			created++
		}
	}
	if created != 1 {
		t.Errorf("%d Events", created)
	}
}

func TestWarnWithoutRun(t *testing.T) {
	client := fake.NewClientset(service("web"))
	New(Config{Client: client, NodeName: "n1"}, make(heard)).Warn(web, "FrontendConflict", "nobody listens")
	if got := client.Actions(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestClip(t *testing.T) {
	for _, in := range []string{"short", strings.Repeat("x", maxNote), strings.Repeat("x", maxNote+1), strings.Repeat("ü", maxNote),
		"x" + strings.Repeat("ü", maxNote)} {
		got := clip(in)
		if len(got) > maxNote || !utf8.ValidString(got) || len(in) <= maxNote && got != in || len(got) < min(len(in), maxNote-3) {
			t.Errorf("%d bytes became %d: %q", len(in), len(got), got)
		}
	}
}
