package kube

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source/sourcetest"
)

// runWithEvents runs a source that posts Events for a node, until it has synced.
func runWithEvents(t *testing.T, client *fake.Clientset, node string) *Source {
	t.Helper()
	s, calls := runWith(t, Config{Client: client, NodeName: node, Events: client.EventsV1()})
	calls.Next(t, "synced")
	return s
}

// posted returns all Events.
func posted(t *testing.T, client *fake.Clientset) []eventsv1.Event {
	t.Helper()
	list, err := client.EventsV1().Events(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// requests counts the requests to create an Event.
func requests(client *fake.Clientset) int {
	n := 0
	for _, action := range client.Actions() {
		if action.Matches("create", "events") {
			n++
		}
	}
	return n
}

// counts returns the non-zero counters of Events, by result.
func counts(t *testing.T, s *Source) map[string]int {
	t.Helper()
	r := prometheus.NewRegistry()
	s.Register(r)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, m := range families[0].GetMetric() {
		if n := m.GetCounter().GetValue(); n > 0 {
			out[m.GetLabel()[0].GetValue()] = int(n)
		}
	}
	return out
}

func warning(note string) Event {
	return Event{Type: corev1.EventTypeWarning, Reason: "NotServed", Note: note}
}

func TestPostEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(node("a"), service("web"))
		s := runWithEvents(t, client, "n1")
		s.PostEvent(plan.Name{Namespace: "default", Name: "gone"}, warning("nobody to tell"))
		s.PostEvent(web, warning("10.96.0.10:80 is 100% taken"))
		at := time.Now()
		time.Sleep(maxJitter)
		synctest.Wait()
		got := posted(t, client)
		if len(got) != 1 {
			t.Fatalf("%d Events, want one", len(got))
		}
		if name, _, _ := strings.Cut(got[0].Name, "."); name != "web" {
			t.Errorf("its name is %s, want one that begins with the Service's", got[0].Name)
		}
		got[0].Name, got[0].ManagedFields, got[0].TypeMeta = "", nil, metav1.TypeMeta{}
		want := eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default"},
			Regarding:  corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: "web", UID: "uid-of-web"},
			Type:       "Warning", Reason: "NotServed", Note: "10.96.0.10:80 is 100% taken", Action: "Proxy",
			EventTime: metav1.NewMicroTime(at), ReportingController: "kube-ipvs", ReportingInstance: "kube-ipvs-n1",
		}
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

// A problem of the node is an Event on the Node, where kubectl finds it.
func TestPostNodeEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(node("n1"))
		s := runWithEvents(t, client, "n1")
		s.PostNodeEvent(warning("has no br_netfilter"))
		time.Sleep(maxJitter)
		synctest.Wait()
		got := posted(t, client)
		want := corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "n1"}
		if len(got) != 1 || got[0].Regarding != want || got[0].Namespace != "default" || got[0].Note != "has no br_netfilter" {
			t.Errorf("posted %+v", got)
		}
	})
}

// An Event that repeats is one each time, with an action of its own; another is one, however often it is posted.
func TestEventsThatRepeat(t *testing.T) {
	for _, repeats := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			client := fake.NewClientset(node("n1"))
			s := runWithEvents(t, client, "n1")
			for range 2 {
				s.PostNodeEvent(Event{Type: corev1.EventTypeNormal, Reason: "Starting", Action: "StartKubeProxy", Repeats: repeats})
				time.Sleep(maxJitter)
				synctest.Wait()
			}
			got := posted(t, client)
			if want := map[bool]int{false: 1, true: 2}[repeats]; len(got) != want || got[0].Action != "StartKubeProxy" || got[0].Note != "" {
				t.Errorf("repeats: %t, posted %+v, want %d", repeats, got, want)
			}
		})
	}
}

// TestEventsOfManyNodes has two messages, of nodes n1 and n2 on Services with these UIDs, that are one Event or two.
func TestEventsOfManyNodes(t *testing.T) {
	is := warning("is taken")
	with := func(edit func(*Event)) Event {
		n := is
		edit(&n)
		return n
	}
	here := with(func(n *Event) { n.NodeLocal = true })
	for _, tt := range []struct {
		name           string
		one, two       Event
		onOne, onTwo   string
		uidOne, uidTwo string
		want           []string
	}{
		{"of two nodes", is, is, "n1", "n2", "u", "u", []string{"is taken"}},
		{"of a program that was started again", is, is, "n1", "n1", "u", "u", []string{"is taken"}},
		{"of two nodes, each its own affair", here, here, "n1", "n2", "u", "u", []string{"on node n1: is taken", "on node n2: is taken"}},
		{"of a node's own affair, again", here, here, "n1", "n1", "u", "u", []string{"on node n1: is taken"}},
		{"of another Service with the name", is, is, "n1", "n1", "u", "v", []string{"is taken", "is taken"}},
		{"with another note", is, with(func(n *Event) { n.Note = "is gone" }), "n1", "n1", "u", "u", []string{"is gone", "is taken"}},
		{"for another reason", is, with(func(n *Event) { n.Reason = "Odd" }), "n1", "n1", "u", "u", []string{"is taken", "is taken"}},
		{"of another type", is, with(func(n *Event) { n.Type = "Normal" }), "n1", "n1", "u", "u", []string{"is taken", "is taken"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				svc := service("web")
				svc.UID = "u"
				client := fake.NewClientset(node("a"), svc)
				one := runWithEvents(t, client, tt.onOne)
				one.PostEvent(web, tt.one)
				time.Sleep(maxJitter)
				synctest.Wait()
				if tt.uidTwo != tt.uidOne {
					api := cluster{t, client}
					api.remove("web")
					svc = service("web")
					svc.UID = "v"
					api.create(svc)
				}
				two := runWithEvents(t, client, tt.onTwo)
				two.PostEvent(web, tt.two)
				two.PostEvent(web, tt.two)
				time.Sleep(maxJitter)
				synctest.Wait()
				var notes []string
				for _, e := range posted(t, client) {
					notes = append(notes, e.Note)
				}
				slices.Sort(notes)
				if diff := cmp.Diff(tt.want, notes); diff != "" {
					t.Errorf("Events (-want +got):\n%s", diff)
				}
				if n := requests(client); n != 2 {
					t.Errorf("%d requests, want one of each", n)
				}
				want := map[string]int{created: 1}
				if len(tt.want) == 1 {
					want = map[string]int{existing: 1}
				}
				if diff := cmp.Diff(want, counts(t, two)); diff != "" {
					t.Errorf("the second's count (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestEventsAreLimited adds more Events than may be posted: they are posted at a rate, and the rest is dropped.
func TestEventsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(node("a"), service("web"))
		s := runWithEvents(t, client, "n1")
		for i := range maxQueued + 7 {
			s.PostEvent(web, warning(fmt.Sprint(i)))
		}
		time.Sleep(maxJitter)
		synctest.Wait()
		if n := requests(client); n < postBurst || n > postBurst+int(maxJitter.Seconds()*postRate) {
			t.Errorf("%d requests in the first %v", n, maxJitter)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if diff := cmp.Diff(map[string]int{created: maxQueued, dropped: 7}, counts(t, s)); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

// A Service with a problem that changes all the time takes no Event from the Node, nor from another Service.
func TestEventsOfABusyService(t *testing.T) {
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			other := service("other")
			other.UID = "uid-of-other"
			client := fake.NewClientset(node("n1"), service("web"), other)
			s := runWithEvents(t, client, "n1")
			for second := range 600 {
				for i := range 10 {
					s.PostEvent(web, warning(fmt.Sprint("changes: ", second, i)))
				}
				if second == 60 {
					s.PostNodeEvent(warning("on the Node"))
					s.PostEvent(plan.Name{Namespace: "default", Name: "other"}, warning("on the other Service"))
				}
				time.Sleep(time.Second)
			}
			synctest.Wait()
			notes := map[string]bool{}
			for _, e := range posted(t, client) {
				notes[e.Note] = true
			}
			if !notes["on the Node"] || !notes["on the other Service"] || len(notes) < 60 {
				t.Errorf("posted %d Events, the Node's: %t, the other Service's: %t", len(notes), notes["on the Node"], notes["on the other Service"])
			}
		})
	}
}

// The Node's Events are dropped only for others of the Node, and are posted first.
func TestEventsOnTheNodeComeFirst(t *testing.T) {
	q := newEventQueue(fake.NewClientset().EventsV1())
	event := func(kind string, uid, number int) *eventsv1.Event {
		return newEvent(corev1.ObjectReference{Kind: kind, UID: types.UID(fmt.Sprint(uid))}, warning(fmt.Sprint(number)), "n1")
	}
	for i := range maxQueued {
		q.add(event(nodeKind, 0, i))
		q.add(event("Service", i, i))
	}
	for range maxQueued {
		if e := q.take(); e == nil || e.Regarding.Kind != nodeKind {
			t.Fatalf("took %v, want an Event on the Node", e)
		}
	}
	if e := q.take(); e != nil {
		t.Errorf("took %v, want none", e)
	}
	q.add(event("Service", 1, 0)) // one on the Node that comes again and again does not keep it back
	for i, want := range []string{"Service", nodeKind, nodeKind} {
		q.add(event(nodeKind, 0, 0))
		if e := q.take(); e == nil || e.Regarding.Kind != want {
			t.Errorf("%d: took %v, want an Event on a %s", i, e, want)
		}
	}
	for i := range 2 * maxQueued {
		q.add(event(nodeKind, 0, i))
	}
	if len(q.queued) != maxQueued {
		t.Errorf("%d Events wait, want %d", len(q.queued), maxQueued)
	}
}

// TestRejectedEvents has Events that cannot be created.
func TestRejectedEvents(t *testing.T) {
	for _, tt := range []struct {
		name  string
		err   error
		want  map[string]int
		asked int
	}{
		{"the API server cannot be reached", errors.New("connection refused"), map[string]int{created: 1}, 2},
		{"it refuses", apierrors.NewForbidden(eventsv1.Resource("events"), "", errors.New("no")), map[string]int{refused: 1}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := fake.NewClientset(node("a"), service("web"))
				first := true
				client.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
					fails := first
					first = false
					return fails, nil, tt.err
				})
				s := runWithEvents(t, client, "n1")
				s.PostEvent(web, warning("is taken"))
				time.Sleep(2 * maxJitter)
				synctest.Wait()
				if diff := cmp.Diff(tt.want, counts(t, s)); diff != "" || requests(client) != tt.asked {
					t.Errorf("%d requests, want %d; -want +got\n%s", requests(client), tt.asked, diff)
				}
			})
		})
	}
}

// TestNoEvents has no client for Events, and no Run.
func TestNoEvents(t *testing.T) {
	client := fake.NewClientset(node("a"), service("web"))
	s, _ := synced(t, client)
	s.PostEvent(web, warning("nobody listens"))
	New(Config{Client: client, NodeName: "n1", Events: client.EventsV1()}, sourcetest.NewRecorder()).PostEvent(web, warning("nobody listens"))
	if got := requests(client); got != 0 || len(s.events.queued) != 0 {
		t.Errorf("%d requests, and %d wait", got, len(s.events.queued))
	}
}

func TestClip(t *testing.T) {
	for _, in := range []string{"short", strings.Repeat("x", maxNote), strings.Repeat("x", maxNote+1), strings.Repeat("ü", maxNote),
		"x" + strings.Repeat("ü", maxNote)} {
		got := clip(in, maxNote)
		if len(got) > maxNote || !utf8.ValidString(got) || len(in) <= maxNote && got != in || len(got) < min(len(in), maxNote-3) {
			t.Errorf("%d bytes became %d: %q", len(in), len(got), got)
		}
	}
}
