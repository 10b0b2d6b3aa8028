package check

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A moduleState is where a module is.
type moduleState uint8

const (
	unseen   moduleState = iota // not loaded, and no list of files can be read
	loaded                      // or built in
	loadable                    // there is a file of it
	absent                      // this kernel does not have it
)

type moduleFacts struct {
	release string
	state   map[string]moduleState
	mayLoad bool // this process has CAP_SYS_MODULE
}

func lookModules(_ context.Context, n *Node, w Wanted) (moduleFacts, error) {
	f := moduleFacts{release: n.release(), state: map[string]moduleState{}}
	caps, err := capabilities()
	if err != nil {
		return f, err
	}
	f.mayLoad = caps&(1<<unix.CAP_SYS_MODULE) != 0
	dir := filepath.Join(n.Modules, f.release)
	builtin, err := moduleNames(filepath.Join(dir, "modules.builtin"))
	files, err2 := moduleNames(filepath.Join(dir, "modules.dep"))
	isBlind := errors.Is(err, fs.ErrNotExist) || errors.Is(err2, fs.ErrNotExist)
	if err := errors.Join(err, err2); err != nil && !isBlind {
		return f, err
	}
	for _, name := range w.Modules {
		_, statErr := os.Stat(filepath.Join(n.Sys, "module", name))
		switch {
		case statErr == nil || builtin[name]:
			f.state[name] = loaded
		case isBlind:
			f.state[name] = unseen
		case files[name]:
			f.state[name] = loadable
		default:
			f.state[name] = absent
		}
	}
	return f, nil
}

// moduleNames reads the names of modules from a list of their files, as depmod(8) writes it: the beginning of each line, up to a colon.
func moduleNames(file string) (map[string]bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names := map[string]bool{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		path, _, _ := strings.Cut(lines.Text(), ":")
		name, _, _ := strings.Cut(filepath.Base(path), ".ko")
		names[strings.ReplaceAll(name, "-", "_")] = true
	}
	return names, lines.Err()
}

func judgeModules(f moduleFacts, w Wanted) []Finding {
	in := func(s moduleState) string {
		return strings.Join(slices.DeleteFunc(slices.Clone(w.Modules), func(name string) bool { return f.state[name] != s }), " ")
	}
	var out []Finding
	if names := in(absent); names != "" {
		out = append(out, Finding{Severity: Error, Found: fmt.Sprintf("Linux %s does not have %s", f.release, names),
			Do: "install the package of this kernel's other modules (linux-modules-extra, kernel-modules-extra), or a kernel that has them"})
	}
	if names := in(loadable); names != "" {
		do := "modprobe -a " + names + "; for each boot: write them, a line each, to /etc/modules-load.d/kube-ipvs.conf"
		if f.mayLoad {
			out = append(out, Finding{Severity: Note, Found: "not loaded yet, which kube-ipvs does when it starts: " + names, Do: do})
		} else {
			out = append(out, Finding{Severity: Warning, Found: "not loaded yet, and without CAP_SYS_MODULE kube-ipvs can load only those that the kernel asks for: " + names, Do: do})
		}
	}
	if names := in(unseen); names != "" {
		out = append(out, Finding{Severity: Unknown, Found: fmt.Sprintf("neither loaded nor, as /lib/modules/%s is not there, known to be built in: %s", f.release, names),
			Do: "run this check on the node, or with its /lib/modules mounted"})
	}
	if out == nil {
		out = append(out, Finding{Severity: OK, Found: fmt.Sprintf("all %d are loaded or built in", len(w.Modules))})
	}
	return out
}
