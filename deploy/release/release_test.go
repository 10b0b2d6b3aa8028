package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// cache is where the packages are downloaded to, once.
const cache = "../../.bin/debs"

// small returns a release of small programs, in a repository of its own, which has the chart and the manifests of this one.
func small(t *testing.T) release {
	t.Helper()
	source := t.TempDir()
	if err := os.CopyFS(filepath.Join(source, "deploy"), os.DirFS("..")); err != nil {
		t.Fatal(err)
	}
	const program = "package main\n\nvar version = \"devel\"\n\nfunc main() { println(version) }\n"
	license, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.mod": "module kube-ipvs\n\ngo 1.26.0\n", "LICENSE": string(license),
		"cmd/kube-ipvs/main.go": program, "cmd/kubectl-ipvs/main.go": program,
	} {
		file := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return made(t, release{version: "v1.2.3", home: "http://example.com/kube-ipvs", source: source, out: t.TempDir(), cache: cache})
}

func made(t *testing.T, r release) release {
	t.Helper()
	if err := r.make(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// files returns the files of a directory.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if out[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// same compares two releases of the same sources, byte by byte.
func same(t *testing.T, a, b release) {
	t.Helper()
	one, other := files(t, a.out), files(t, b.out)
	if len(one) != len(other) || len(one) < 10 {
		t.Errorf("%d files, and %d", len(one), len(other))
	}
	for name, text := range one {
		if !bytes.Equal(text, other[name]) {
			t.Errorf("%s is not the same: %d bytes, and %d", name, len(text), len(other[name]))
		}
	}
}

func TestRelease(t *testing.T) {
	r := small(t)
	t.Run("made again elsewhere", func(t *testing.T) { same(t, r, small(t)) })
	t.Run("files", func(t *testing.T) { testFiles(t, r) })
	t.Run("chart", func(t *testing.T) { testChart(t, r) })
	t.Run("SBOM", func(t *testing.T) { testSBOM(t, r) })
	t.Run("image", func(t *testing.T) { testImage(t, r) })
	t.Run("plugin", func(t *testing.T) { testPlugin(t, r) })
	t.Run("without a homepage", func(t *testing.T) { testNoHome(t, r) })
}

func testFiles(t *testing.T, r release) {
	want := []string{
		"SHA256SUMS", "kube-ipvs-1.2.3.tgz", "kube-ipvs-v1.2.3-k3s.yaml", "kube-ipvs-v1.2.3-kind.yaml", "kube-ipvs-v1.2.3-kubeadm.yaml",
		"kube-ipvs-v1.2.3-linux-amd64", "kube-ipvs-v1.2.3-linux-amd64.cdx.json", "kube-ipvs-v1.2.3-linux-arm64",
		"kube-ipvs-v1.2.3-linux-arm64.cdx.json", "kube-ipvs-v1.2.3-oci.tar", "kube-ipvs-v1.2.3-rke2.yaml", "kube-ipvs-v1.2.3-standalone.yaml",
		"kube-ipvs-v1.2.3-viewer.yaml", "kubectl-ipvs-v1.2.3-darwin-amd64.tar.gz", "kubectl-ipvs-v1.2.3-darwin-arm64.tar.gz",
		"kubectl-ipvs-v1.2.3-krew.yaml", "kubectl-ipvs-v1.2.3-linux-amd64.tar.gz", "kubectl-ipvs-v1.2.3-linux-arm64.tar.gz",
		"kubectl-ipvs-v1.2.3-windows-amd64.zip", "kubectl-ipvs-v1.2.3-windows-arm64.zip",
	}
	have := files(t, r.out)
	if names := slices.Sorted(maps.Keys(have)); !slices.Equal(names, want) {
		t.Errorf("files %v, want %v", names, want)
	}
	check := exec.CommandContext(t.Context(), "sha256sum", "-c", "SHA256SUMS") // as docs/install.md has it
	check.Dir = r.out
	if output, err := check.CombinedOutput(); err != nil || strings.Count(string(output), ": OK\n") != len(want)-1 {
		t.Errorf("sha256sum: %v\n%s", err, output)
	}
	manifest := string(have["kube-ipvs-v1.2.3-k3s.yaml"])
	if strings.Count(manifest, "image: kube-ipvs:v1.2.3\n") != 2 || strings.Contains(manifest, ":dev") {
		t.Errorf("images in the manifest:\n%s", manifest)
	}
	if !bytes.Contains(have["kube-ipvs-v1.2.3-linux-arm64"], []byte("v1.2.3")) {
		t.Error("the program does not have the version")
	}
}

func testChart(t *testing.T, r release) {
	unzipped, err := gzip.NewReader(bytes.NewReader(files(t, r.out)["kube-ipvs-1.2.3.tgz"]))
	if err != nil {
		t.Fatal(err)
	}
	have := entries(t, unzipped)
	chart := string(have["kube-ipvs/Chart.yaml"].data)
	if !strings.Contains(chart, "\nversion: 1.2.3\n") || !strings.Contains(chart, "\nappVersion: v1.2.3\n") {
		t.Errorf("versions in\n%s", chart)
	}
	for _, name := range []string{"values.yaml", "values.schema.json", "platforms.yaml", "templates/daemonset.yaml", "monitoring/rules.yaml"} {
		if have["kube-ipvs/"+name].Name == "" {
			t.Errorf("the chart lacks %s", name)
		}
	}
}

func testSBOM(t *testing.T, r release) {
	var bom cyclonedx.BOM
	if err := json.Unmarshal(files(t, r.out)["kube-ipvs-v1.2.3-linux-arm64.cdx.json"], &bom); err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, c := range *bom.Components {
		name, _, _ := strings.Cut(c.PackageURL, "@")
		have[name] = true
	}
	for _, want := range []string{"pkg:golang/std", "pkg:deb/debian/iptables", "pkg:deb/debian/libc6"} {
		if !have[want] {
			t.Errorf("the SBOM lacks %s", want)
		}
	}
}

// entries returns the files of a tar archive by name, without the directories.
func entries(t *testing.T, r io.Reader) map[string]entry {
	t.Helper()
	out := map[string]entry{}
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 && h.ModTime.Year() > 1 {
			t.Errorf("%s has owner %d:%d and time %v", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		if h.Typeflag != tar.TypeDir {
			out[h.Name] = entry{*h, data}
		}
	}
}

// testImage reads the image as a container runtime does.
func testImage(t *testing.T, r release) {
	dir := t.TempDir()
	for name, e := range entries(t, bytes.NewReader(files(t, r.out)["kube-ipvs-v1.2.3-oci.tar"])) {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, e.data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(m.Platform.Architecture, func(t *testing.T) { testRoot(t, image, machines[m.Platform.Architecture]) })
	}
	if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(platforms, want) {
		t.Errorf("platforms %v, want %v", platforms, want)
	}
}

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// testRoot follows, in the image, the entrypoint and the names of all programs that kube-ipvs and its pod call, and from there every
// library that they load.
func testRoot(t *testing.T, image v1.Image, machine elf.Machine) {
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	root := tree{}
	for _, layer := range layers {
		text, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(root, entries(t, text))
	}
	programs := []string{config.Config.Entrypoint[0], "/bin/sh", "/sbin/modprobe"}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, backend := range []string{"", "-nft", "-legacy"} {
			for _, use := range []string{"", "-save", "-restore"} {
				programs = append(programs, "/usr/sbin/"+family+backend+use)
			}
		}
	}
	for _, program := range programs {
		e, err := root.find(program)
		if err != nil {
			t.Error(err)
			continue
		}
		if e.Mode&0o111 != 0o111 {
			t.Errorf("%s is not executable: %o", program, e.Mode)
		}
	}
	checked, size := 0, 0
	for name, e := range root {
		size += len(e.data)
		if !bytes.HasPrefix(e.data, []byte(elf.ELFMAG)) {
			continue
		}
		checked++
		if err := root.loads(e.data, machine); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if checked < 100 || size > 20<<20 {
		t.Errorf("%d programs and libraries, %d bytes: want more than 100, the extensions of iptables, and less than 20 MiB", checked, size)
	}
	for _, license := range []string{"iptables", "libc6", "libssl3"} {
		if _, err := root.find("/usr/share/doc/" + license + "/copyright"); err != nil {
			t.Error(err)
		}
	}
}

// A tree is a file system's files by name.
type tree map[string]entry

// find follows links, of files and of directories.
func (root tree) find(name string) (entry, error) {
	todo, at := strings.Split(strings.Trim(name, "/"), "/"), ""
	for links := 0; len(todo) > 0; {
		at, todo = path.Join(at, todo[0]), todo[1:]
		e, ok := root[at]
		if !ok || e.Typeflag != tar.TypeSymlink {
			continue
		}
		if links++; links > 10 {
			return entry{}, errors.New(name + ": too many links")
		}
		if !path.IsAbs(e.Linkname) {
			e.Linkname = path.Join("/", path.Dir(at), e.Linkname)
		}
		todo, at = append(strings.Split(strings.Trim(e.Linkname, "/"), "/"), todo...), ""
	}
	e, ok := root[at]
	if !ok {
		return entry{}, errors.New(name + " is missing")
	}
	return e, nil
}

// loads reports which library a program lacks, if any.
func (root tree) loads(data []byte, machine elf.Machine) error {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return err
	}
	if file.Machine != machine {
		return errors.New("it is for " + file.Machine.String())
	}
	libraries, err := file.ImportedLibraries()
	if err != nil {
		return err
	}
	triplet := map[elf.Machine]string{elf.EM_X86_64: "x86_64-linux-gnu", elf.EM_AARCH64: "aarch64-linux-gnu"}[machine]
	for _, library := range libraries {
		if _, err := root.find("/usr/lib/" + triplet + "/" + library); err != nil {
			return err
		}
	}
	return nil
}

// TestArchiveIsWhole reads an archive with tar, which wants its end, too.
func TestArchiveIsWhole(t *testing.T) {
	text, err := tarOf([]entry{directory("a"), {tar.Header{Typeflag: tar.TypeReg, Name: "a/b", Mode: 0o644}, []byte("c")}})
	if err != nil {
		t.Fatal(err)
	}
	list := exec.CommandContext(t.Context(), "tar", "--list")
	list.Stdin = bytes.NewReader(text)
	if output, err := list.CombinedOutput(); err != nil || string(output) != "a/\na/b\n" {
		t.Errorf("tar: %v\n%s", err, output)
	}
}

// TestRefused gives versions that are none, and packages that are not as locked.
func TestRefused(t *testing.T) {
	for _, version := range []string{"", "1.2.3", "v1.2", "v1.2.3+build"} {
		if err := (release{version: version, out: t.TempDir()}).make(t.Context()); err == nil {
			t.Errorf("%q is a version", version)
		}
	}
	dir := t.TempDir()
	d := debian{name: "dash", version: "1", sha256: strings.Repeat("0", 64)}
	if err := os.WriteFile(filepath.Join(dir, d.sha256+".deb"), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.fetch(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "package dash: checksum") {
		t.Errorf("a file with another checksum: %v", err)
	}
}
