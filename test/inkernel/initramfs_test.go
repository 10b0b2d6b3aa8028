package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// someModules is a folder of modules as depmod(8) leaves it.
func someModules(t *testing.T) moduleFolder {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"modules.builtin": "kernel/net/ipv6/ipv6.ko\n",
		"modules.dep":     "fs/virtiofs.ko: fs/fuse.ko virtio_ring.ko virtio.ko\nvirtio_pci.ko: virtio.ko\nvirtio.ko:\n",
		"virtio.ko":       "1", "virtio_ring.ko": "22", "virtio_pci.ko": "333", "fs/fuse.ko": "4444", "fs/virtiofs.ko": "",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	folder, err := openModules(root)
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func TestModuleOrder(t *testing.T) {
	folder := someModules(t)
	for name, want := range map[string][]string{
		"virtiofs": {"virtio.ko", "virtio_ring.ko", "fs/fuse.ko", "fs/virtiofs.ko"}, "virtio": {"virtio.ko"}, "ipv6": {},
	} {
		for i := range want {
			want[i] = filepath.Join(folder.root, want[i])
		}
		got, err := folder.order(name)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if _, err := folder.order("plan9"); err == nil {
		t.Error("a module that is not there is no error")
	}
}

func TestInitramfs(t *testing.T) {
	dir := t.TempDir()
	program, path := filepath.Join(dir, "program"), filepath.Join(dir, "initramfs")
	if err := os.WriteFile(program, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeInitramfs(path, program, someModules(t)); err != nil {
		t.Fatal(err)
	}
	archive, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := [][2]string{
		{"init", "program"}, {"module00", "1"}, {"module01", "333"},
		{"module10", "1"}, {"module11", "22"}, {"module12", "4444"}, {"module13", ""}, {"TRAILER!!!", ""},
	}
	if diff := cmp.Diff(want, entries(t, archive)); diff != "" {
		t.Errorf("names and contents (-want +got):\n%s", diff)
	}
}

// entries reads a cpio archive.
func entries(t *testing.T, archive []byte) (found [][2]string) {
	t.Helper()
	const header, fields, contentSize, nameSize = 6 + 13*8, 6, 6, 11
	at := 0
	take := func(n int) []byte {
		if at+n > len(archive) {
			t.Fatalf("the archive ends within an entry, after %v", found)
		}
		at += n
		return archive[at-n : at]
	}
	for at < len(archive) {
		head := take(header)
		number := func(i int) int {
			n, err := strconv.ParseUint(string(head[fields+8*i:fields+8*i+8]), 16, 32)
			if err != nil || !bytes.HasPrefix(head, []byte("070701")) {
				t.Fatalf("header %q: %v", head, err)
			}
			return int(n)
		}
		name := take(number(nameSize))
		take(-at & 3)
		content := take(number(contentSize))
		take(-at & 3)
		found = append(found, [2]string{string(bytes.TrimSuffix(name, []byte{0})), string(content)})
	}
	return found
}
