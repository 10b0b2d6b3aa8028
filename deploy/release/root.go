package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// An entry is a file, link or directory of the image.
type entry struct {
	tar.Header
	data []byte
}

// needless matches files of the packages that nothing in the image uses. Copyright notices stay.
var needless = regexp.MustCompile(`^usr/share/(man|lintian|locale|bug|initramfs-tools|doc-base|debianutils|menu)(/|$)` +
	`|^usr/share/doc/[^/]+/[^/]*$|^etc/(init.d|ld.so.conf.d|modprobe.d|modules-load.d|depmod.d)(/|$)` +
	`|/gconv(/|$)|/engines-3(/|$)|/ossl-modules(/|$)|/libssl\.so|^usr/share/bash-completion(/|$)|^(usr/)?lib/udev(/|$)`)

// rootOf returns the image's root without the program, sorted by name.
func rootOf(ctx context.Context, cache string, packages []debian) ([]entry, error) {
	files := map[string]entry{}
	for _, d := range packages {
		archive, err := d.unpack(ctx, cache)
		if err != nil {
			return nil, err
		}
		if err := add(files, archive); err != nil {
			return nil, fmt.Errorf("package %s: %w", d.name, err)
		}
	}
	addLinks(files)
	if err := addParents(files); err != nil {
		return nil, err
	}
	return slices.SortedFunc(func(yield func(entry) bool) {
		for _, e := range files {
			if !yield(e) {
				return
			}
		}
	}, func(a, b entry) int { return cmp.Compare(a.Name, b.Name) }), nil
}

// add adds the files of a package's archive. Directories follow from them.
func add(files map[string]entry, archive []byte) error {
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := merged(path.Clean(h.Name))
		if h.Typeflag == tar.TypeDir || needless.MatchString(name) && !strings.HasSuffix(name, "/copyright") {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		e := entry{tar.Header{Typeflag: h.Typeflag, Name: name, Mode: h.Mode & 0o777, Linkname: h.Linkname}, data}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeSymlink:
		default:
			return fmt.Errorf("%s is neither a file nor a symbolic link", name)
		}
		files[name] = e
	}
}

// topLinks are what was a directory before Debian merged it into /usr.
var topLinks = []string{"bin", "sbin", "lib", "lib64"}

// merged returns a name below usr, where the links of the root lead.
func merged(name string) string {
	if first, _, _ := strings.Cut(name, "/"); slices.Contains(topLinks, first) {
		return "usr/" + name
	}
	return name
}

// addLinks adds what the packages' scripts do: names of programs, and what a container runtime expects.
func addLinks(files map[string]entry) {
	link := func(name, to string) {
		files[name] = entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}, nil}
	}
	for _, top := range topLinks {
		link(top, "usr/"+top)
	}
	link("var/run", "../run")
	// The backend is chosen for each node by its rules; these names are Debian's default.
	for _, program := range []string{"iptables", "ip6tables"} {
		for _, use := range []string{"", "-save", "-restore"} {
			link("usr/sbin/"+program+use, program+"-nft"+use)
		}
	}
	for _, name := range []string{"dev", "etc", "host", "proc", "run", "sys", "tmp", "usr/lib64", "usr/lib/modules"} {
		files[name] = directory(name)
	}
}

func directory(name string) entry {
	mode := int64(0o755)
	if name == "tmp" {
		mode = 0o1777
	}
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}, nil}
}

// addParents adds the directories of all files.
func addParents(files map[string]entry) error {
	for _, name := range slices.Collect(func(yield func(string) bool) {
		for name := range files {
			if !yield(name) {
				return
			}
		}
	}) {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if e, ok := files[dir]; ok && e.Typeflag != tar.TypeDir {
				return fmt.Errorf("%s is below %s, which is no directory", name, dir)
			}
			files[dir] = directory(dir)
		}
	}
	return nil
}

// tarOf returns entries as a tar archive with one time, one owner and no names of this machine.
func tarOf(entries []entry) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := e.Header
		h.Size, h.ModTime, h.Format = int64(len(e.data)), time.Unix(0, 0), tar.FormatUSTAR
		if h.Typeflag == tar.TypeDir {
			h.Name += "/"
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// tarGzipOf returns entries as a compressed tar archive.
func tarGzipOf(entries []entry) ([]byte, error) {
	archive, err := tarOf(entries)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(archive); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// writeRoot writes the image's root without the program to a directory.
func writeRoot(ctx context.Context, cache, arch, dir string) error {
	packages, err := packagesOf(arch)
	if err != nil {
		return err
	}
	root, err := rootOf(ctx, cache, packages)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, e := range root { // sorted: a directory comes before its files
		file := filepath.Join(dir, filepath.FromSlash(e.Name))
		switch e.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(file, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(e.Linkname, file)
		default:
			err = os.WriteFile(file, e.data, os.FileMode(e.Mode))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
