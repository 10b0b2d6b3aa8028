package see

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kube-ipvs/internal/cli"
)

// Names are resolved as kubectl's are.
func TestParseGet(t *testing.T) {
	for _, tt := range []struct{ args, namespace, want string }{
		{"", "", "services of "},
		{"", "shop", "services of shop"},
		{"svc", "", "services of "},
		{"ep", "shop", "endpoints of shop"},
		{"svc/web", "", "services of default/web"},
		{"service/web", "shop", "services of shop/web"},
		{"shop/web", "", "services of shop/web"},
		{"services web", "", "services of default/web"},
		{"endpoints svc/web", "shop", "endpoints of shop/web"},
		{"fe shop/web", "shop", "frontends of shop/web"},
		{"drains shop/web", "", "drains of shop/web"},
		{"svc svc", "svc", "services of svc/svc"},
		{"shop/web", "other", "shop/web is not in namespace other"},
		{"pods", "", `"pods" is none of`},
		{"web services", "", `"web" is none of`},
		{"services /web", "", `"/web" is no name`},
		{"services web/", "", `"web/" is no name`},
		{"services a/b/c", "", `"a/b/c" is no name`},
	} {
		resource, q, err := parseGet(strings.Fields(tt.args), tt.namespace)
		got := fmt.Sprintf("%s of %s", resource, strings.TrimSuffix(q.Namespace+"/"+q.Service, "/"))
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, tt.want) || err == nil && got != tt.want {
			t.Errorf("get %s -n %q: %s, want %s", tt.args, tt.namespace, got, tt.want)
		}
	}
}

func TestParseExplain(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"10.96.0.1:443", "to 10.96.0.1:443"},
		{"10.96.0.1:53/udp", "to 10.96.0.1:53/udp"},
		{"[fd00::a]:53/UDP", "to [fd00::a]:53/UDP"},
		{"svc/web", "default/web"},
		{"shop/web", "shop/web"},
		{"web", "default/web"},
		{"10.96.0.1:443/icmp", `"icmp" is not a protocol`},
		{"10.96.0.1:https", `"10.96.0.1:https" is not ADDRESS:PORT`},
		{"10.96.0.1:0", `"10.96.0.1:0" is not ADDRESS:PORT`},
	} {
		q, err := parseExplain(tt.text, "")
		got := q.Namespace + "/" + q.Service
		if q.To != "" {
			got = "to " + q.To
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("explain %s: %s, want %s", tt.text, got, tt.want)
		}
	}
}

// With --watch a line is printed when its item comes, changes or goes, and says which.
func TestWatch(t *testing.T) {
	s := see(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	lines, ended := make(chan string, 100), make(chan int)
	reader, writer := io.Pipe()
	go func() {
		defer close(lines)
		for text := bufio.NewScanner(reader); text.Scan(); {
			lines <- text.Text()
		}
	}()
	go func() {
		ended <- program(ctx, []string{"get", "endpoints", "svc/echo", "--watch", "--interval=5ms", "--socket=" + s.socket}, writer, writer)
		_ = writer.Close()
	}()
	next := func() string {
		select {
		case l := <-lines:
			return strings.Join(strings.Fields(l), " ")
		case <-ctx.Done():
			return "nothing"
		}
	}
	for _, want := range []string{
		"EVENT NAMESPACE", "ADDED default echo - 10.244.1.11:8080/tcp", "ADDED default echo - 10.244.1.12:8080/tcp", "ADDED default echo - 10.244.2.11:8080/tcp",
	} {
		if got := next(); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	s.connect(t, "10.96.10.1:6711", "10.244.1.12:8080", 3)
	if got, want := next(), "MODIFIED default echo - 10.244.1.12:8080/tcp - node1 1 3 Served ready"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	s.change(t, "echo.yaml", "- {addresses: [10.244.2.11], nodeName: node2} # echo-3\n", "", "get svc/echo", "2/2")
	if got, want := next(), "DELETED default echo - 10.244.2.11:8080/tcp - node2 1 0 Served ready"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := os.Remove(filepath.Join(s.dir, "echo.yaml")); err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range []string{"10.244.1.11:8080/tcp - node1 1 0", "10.244.1.12:8080/tcp - node1 1 3"} {
		if got, want := next(), "DELETED default echo - "+endpoint+" Served ready"; got != want {
			t.Errorf("the Service goes: %q, want %q", got, want)
		}
	}
	stop()
	if exit := <-ended; exit != 0 {
		t.Errorf("exit status %d after an interrupt", exit)
	}
	for l := range lines {
		t.Errorf("more lines: %q", l)
	}
}

// What cannot be asked, and who does not answer, is an error that names it.
func TestAskErrors(t *testing.T) {
	s := see(t)
	for _, tt := range []struct{ line, want string }{
		{"get svc/none", "no such Service is served"},
		{"get -o xml", "--output=xml: is none of wide, json, yaml"},
		{"explain 10.96.0.1:80 --from nowhere", "--from=nowhere: neither an IP address nor one of pod, node, outside"},
		{"explain 10.96.0.1:80 --from fd00::1", "of different families"},
		{"top a b", "accepts at most 1 arg(s)"},
		{"get --raw v1alpha1/nodes", "--raw=v1alpha1/nodes: must be a path such as /v1alpha1/nodes"},
	} {
		if _, problems, exit := s.run(t, tt.line); exit != cli.Failed || !strings.Contains(problems, tt.want) {
			t.Errorf("%s: exit status %d, %q, want %q", tt.line, exit, problems, tt.want)
		}
	}
	s.socket += "-none"
	if _, problems, exit := s.run(t, "get"); exit != cli.Failed || !strings.Contains(problems, "no kube-ipvs answers at "+s.socket) {
		t.Errorf("nobody there: exit status %d, %q", exit, problems)
	}
}

// An answer comes as it is, a failure too.
func TestRaw(t *testing.T) {
	s := see(t)
	for _, tt := range []struct {
		path, want string
		exit       int
	}{
		{"/v1alpha1/nodes", `{"kind":"NodeList","apiVersion":"kube-ipvs/v1alpha1","node":"node1"`, 0},
		{"/v1alpha1/services?service=none", `{"kind":"Status","apiVersion":"kube-ipvs/v1alpha1","message":"no such Service is served","code":404}`, cli.Failed},
		{"/none", "404 page not found", cli.Failed},
	} {
		if out, problems, exit := s.run(t, "get --raw "+tt.path); exit != tt.exit || !strings.HasPrefix(out, tt.want) || problems != "" {
			t.Errorf("%s: exit status %d, %q %q, want %d %q", tt.path, exit, out, problems, tt.exit, tt.want)
		}
	}
}

// Shells complete resources, and the names of the Services that are served.
func TestCompletion(t *testing.T) {
	s := see(t)
	for _, tt := range []struct {
		words []string
		want  string
	}{
		{[]string{"get", ""}, "services endpoints frontends drains"},
		{[]string{"get", "endpoints", "--socket=" + s.socket, "default/echo-n"}, "default/echo-noep default/echo-np"},
		{[]string{"explain", "--socket=" + s.socket, "default/la"}, ""},
		{[]string{"top", "--socket=" + s.socket + "-none", ""}, ""},
		{[]string{"get", "-o", ""}, "wide json yaml"},
	} {
		var out, problems strings.Builder
		program(t.Context(), append([]string{"__complete"}, tt.words...), &out, &problems)
		var got []string
		for l := range strings.Lines(out.String()) {
			if l = strings.TrimSpace(l); !strings.HasPrefix(l, ":") && l != "" && strings.HasPrefix(l, tt.words[len(tt.words)-1]) {
				got = append(got, l)
			}
		}
		if text := strings.Join(got, " "); text != tt.want {
			t.Errorf("%v: %q, want %q", tt.words, text, tt.want)
		}
	}
}
