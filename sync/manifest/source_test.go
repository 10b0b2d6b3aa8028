package manifest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"kube-ipvs/sync/plan"
)

// port returns the port of a Service, or 0 if there is none.
func port(s *Source, name plan.Name) uint16 {
	svc, _, ok := s.Service(name)
	if !ok {
		return 0
	}
	return svc.Ports[0].Port
}

func TestChanges(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	d.write("a.yaml", web)
	s, calls := run(t, d.path)
	calls.Next(t, "synced")
	if names := s.Names(); !slices.Equal(names, []plan.Name{nameOfWeb}) || s.Node().Name != "n1" || !s.Node().Eligible {
		t.Errorf("names %v, node %+v", names, s.Node())
	}

	d.write("b.yaml", webSlice)
	calls.Next(t, "default/web")
	if _, slices, _ := s.Service(nameOfWeb); len(slices) != 1 {
		t.Errorf("slices %v", slices)
	}
	d.write("c.yaml", api+"---"+web)
	calls.Next(t, "prod/api", "problems")
	d.write("a.yaml", strings.Replace(web, "port: 80", "port: 81", 1))
	calls.Next(t, "default/web")
	if got := port(s, nameOfWeb); got != 81 {
		t.Errorf("port %d", got)
	}
	d.write("a.yaml", "# rewritten\n"+strings.Replace(web, "port: 80", "port: 81", 1))
	nothing(t, calls)
	d.remove("a.yaml") // the copy in c.yaml takes over
	calls.Next(t, "default/web", "problems")
	if got := port(s, nameOfWeb); got != 80 {
		t.Errorf("port %d", got)
	}
	d.remove("c.yaml")
	calls.Next(t, "default/web", "prod/api")
	d.write("n.yaml", "{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}}")
	calls.Next(t, "node")
	if s.Node().Zone != "a" {
		t.Errorf("node %+v", s.Node())
	}
	d.write("s.yaml", "{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: k}, spec: {cidrs: [10.96.0.0/12, 10.0.0.0/x]}}")
	calls.Next(t, "node", "problems")
	if len(s.ServiceCIDRs()) != 1 || len(s.Problems()) != 1 {
		t.Errorf("CIDRs %v, problems %v", s.ServiceCIDRs(), s.Problems())
	}
}

// TestMistakesTakeNothingDown has mistakes in a file of two Services, one after the other.
func TestMistakesTakeNothingDown(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	d.write("a.yaml", web+"---"+api)
	s, calls := run(t, d.path)
	calls.Next(t, "synced")

	typo := strings.Replace(web, "ports:", "prots:", 1)
	d.write("a.yaml", typo+"---"+strings.Replace(api, "port: 80", "port: 81", 1))
	calls.Next(t, "prod/api", "problems")
	if port(s, nameOfWeb) != 80 || port(s, nameOfAPI) != 81 {
		t.Errorf("ports %d, %d", port(s, nameOfWeb), port(s, nameOfAPI))
	}
	d.write("a.yaml", typo) // a file with a mistake removes nothing
	nothing(t, calls)
	d.write("b.yaml", strings.Replace(web, "port: 80", "port: 82", 1)) // but a good document precedes a kept one
	calls.Next(t, "default/web")
	if port(s, nameOfWeb) != 82 || port(s, nameOfAPI) != 81 {
		t.Errorf("ports %d, %d", port(s, nameOfWeb), port(s, nameOfAPI))
	}
	d.remove("b.yaml")
	calls.Next(t, "default/web")
	if port(s, nameOfWeb) != 80 {
		t.Errorf("port %d", port(s, nameOfWeb))
	}
	d.write("a.yaml", api) // without a mistake, it does remove
	calls.Next(t, "default/web", "prod/api", "problems")
	if port(s, nameOfWeb) != 0 || port(s, nameOfAPI) != 80 {
		t.Errorf("ports %d, %d", port(s, nameOfWeb), port(s, nameOfAPI))
	}
	d.write("a.yaml", typo)
	calls.Next(t, "problems")
	d.remove("a.yaml")
	calls.Next(t, "prod/api", "problems")
}

// A mistake that is there at the start is reported: its Service is not served, and nothing else tells why.
func TestMistakeAtTheStart(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	d.write("a.yaml", strings.Replace(web, "ports:", "prots:", 1))
	s, calls := run(t, d.path)
	calls.Next(t, "synced", "problems")
	if names, problems := s.Names(), s.Problems(); len(names) != 0 || len(problems) != 1 {
		t.Errorf("names %v, problems %v", names, problems)
	}
	nothing(t, calls)
}

// TestKeptOnce breaks a file repeatedly: it keeps each object once.
func TestKeptOnce(t *testing.T) {
	f := newDecoder().parse("a.yaml", []byte(web+"---"+api))
	for range 10 {
		now := newDecoder().parse("a.yaml", []byte(web+"---\na: ["))
		now.keep(f)
		f = now
	}
	if len(f.good) != 1 || len(f.kept) != 1 || f.kept[0].id.name != "api" {
		t.Errorf("supplies %v, keeps %v", f.good, f.kept)
	}
}

func TestFilesThatAreNotRead(t *testing.T) {
	for name, make := range map[string]func(d dir, file string){
		"is not a regular file":     func(d dir, file string) { d.done(syscall.Mkfifo(file, 0o600)) },
		"is a directory":            func(d dir, file string) { d.done(os.Mkdir(file, 0o700)) },
		"is larger than 64 MiB":     func(d dir, file string) { d.write("a.yaml", "x"); d.done(os.Truncate(file, maxFile+1)) },
		"is empty":                  func(d dir, _ string) { d.write("a.yaml", "") },
		"no such file or directory": func(d dir, file string) { d.done(os.Symlink("nowhere", file)) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDir(t)
			d.write("a.yaml", web)
			f := newDirectory(d.path)
			for range 2 {
				if err := f.read(); err != nil {
					t.Fatal(err)
				}
				if _, ok := assemble(&f, "n1").services[nameOfWeb]; !ok {
					t.Error("what the file said before is gone")
				}
				d.remove("a.yaml")
				make(d, d.file("a.yaml"))
			}
			want := strings.Replace(name, "is a directory", "is not a regular file", 1)
			if got := assemble(&f, "n1").problems; len(got) != 1 || got[0] != (plan.Problem{Object: "a.yaml", Field: ".", Reason: want}) {
				t.Errorf("problems %v", got)
			}
		})
	}
}

func TestWaysToWrite(t *testing.T) {
	t.Parallel()
	inPlace := func(d dir, content string) { d.done(os.WriteFile(d.file("a.yaml"), []byte(content), 0o600)) }
	renamedOver := func(d dir, content string) { d.write("a.yaml", content) }
	removedFirst := func(d dir, content string) { d.rename("a.yaml", "a.yaml~"); inPlace(d, content) }
	d := newDir(t)
	d.write("a.yaml", web)
	s, calls := run(t, d.path)
	calls.Next(t, "synced")
	for i, write := range []func(dir, string){inPlace, renamedOver, removedFirst, inPlace, renamedOver, removedFirst} {
		write(d, strings.Replace(web, "port: 80", fmt.Sprintf("port: %d", 81+i), 1))
		calls.Next(t, "default/web")
		if got := port(s, nameOfWeb); got != uint16(81+i) {
			t.Errorf("port %d", got)
		}
	}
}

// TestConfigMapVolume changes files as kubelet does: every name is a link through ..data, which is replaced.
func TestConfigMapVolume(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	publish := func(version, content string) {
		d.done(os.Mkdir(d.file(version), 0o700))
		d.write(version+"/a.yaml", content)
		d.done(os.Symlink(version, d.file("..data_tmp")))
		d.rename("..data_tmp", "..data")
	}
	publish("..1", web)
	d.done(os.Symlink("..data/a.yaml", d.file("a.yaml")))
	s, calls := run(t, d.path)
	calls.Next(t, "synced")
	publish("..2", strings.Replace(web, "port: 80", "port: 81", 1))
	d.remove("..1")
	calls.Next(t, "default/web")
	if got := port(s, nameOfWeb); got != 81 || len(s.Problems()) > 0 {
		t.Errorf("port %d, problems %v", got, s.Problems())
	}
}

func TestFolderThatAppearsLater(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	s, calls := run(t, d.file("etc/manifests"))
	nothing(t, calls)
	if got := s.Problems(); len(got) != 1 || got[0].Reason != syscall.ENOENT.Error() {
		t.Errorf("problems %v", got)
	}
	d.done(os.Mkdir(d.file("etc"), 0o700))
	nothing(t, calls)
	d.done(os.Mkdir(d.file("etc/manifests"), 0o700))
	calls.Next(t, "synced")
	d.write("etc/manifests/a.yaml", web)
	calls.Next(t, "default/web")
}

// TestDirectoryReplaced has a directory that is moved away, and another that takes its place.
func TestDirectoryReplaced(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	d.done(os.Mkdir(d.file("now"), 0o700))
	d.write("now/a.yaml", web)
	s, calls := run(t, d.file("now"))
	calls.Next(t, "synced")
	d.rename("now", "then")
	calls.Next(t, "problems")
	if got := port(s, nameOfWeb); got != 80 {
		t.Errorf("an unreadable directory took Services down")
	}
	d.write("then/a.yaml", api)
	nothing(t, calls)
	d.done(os.Mkdir(d.file("new"), 0o700))
	d.write("new/a.yaml", api)
	d.rename("new", "now")
	calls.Next(t, "default/web", "prod/api", "problems")
	d.write("now/a.yaml", strings.Replace(api, "port: 80", "port: 81", 1))
	calls.Next(t, "prod/api")
}

// TestDirectoryBehindALink has a link to a directory, which is replaced by one to another directory.
func TestDirectoryBehindALink(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	link := func(to string) {
		d.done(os.Symlink(to, d.file("link")))
		d.rename("link", "now")
	}
	d.done(os.Mkdir(d.file("one"), 0o700))
	d.done(os.Mkdir(d.file("two"), 0o700))
	d.write("one/a.yaml", web)
	d.write("two/a.yaml", api)
	link("one")
	_, calls := run(t, d.file("now"))
	calls.Next(t, "synced")
	link("two")
	calls.Next(t, "default/web", "prod/api")
	d.write("two/a.yaml", strings.Replace(api, "port: 80", "port: 81", 1))
	calls.Next(t, "prod/api")
	link("one")
	calls.Next(t, "default/web", "prod/api")
	d.write("one/a.yaml", strings.Replace(web, "port: 80", "port: 81", 1))
	calls.Next(t, "default/web")
}

// TestWatchesAreReleased counts the kernel's watches while a directory is replaced again and again.
func TestWatchesAreReleased(t *testing.T) {
	d := newDir(t)
	w, err := newWatcher(d.file("now"))
	d.done(err)
	defer w.close()
	for i := range 10 {
		version := fmt.Sprint("v", i)
		d.done(os.Mkdir(d.file(version), 0o700))
		d.done(os.Symlink(version, d.file("link")))
		d.rename("link", "now")
		d.done(w.follow())
	}
	if got := watches(t); got != 2 {
		t.Errorf("%d watches, want one of the directory and one of the directory above", got)
	}
}

// watches returns the number of inotify watches of this process (proc(5), /proc/pid/fdinfo).
func watches(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, _ := os.ReadFile(file) // the file of the listing itself is gone
		n += strings.Count(string(info), "inotify wd:")
	}
	return n
}

func TestUnreadableDirectory(t *testing.T) {
	d := newDir(t)
	d.write("now", "a file")
	f := newDirectory(d.file("now"))
	if err := f.read(); err == nil {
		t.Fatal("read a file as a directory")
	}
	if f.known {
		t.Error("knows a directory that it has not read")
	}
	if got := assemble(&f, "n1").problems; len(got) != 1 || got[0].Object != d.file("now") || got[0].Reason != syscall.ENOTDIR.Error() {
		t.Errorf("problems %v", got)
	}
}
