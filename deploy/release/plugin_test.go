package main

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// testPlugin lets krew install the plugin for each platform, from where the manifest says that the archives are published. Krew holds the
// manifest to its rules, and archives to their checksums.
func testPlugin(t *testing.T, r release) {
	krew := filepath.Join(t.TempDir(), "krew")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", krew, "sigs.k8s.io/krew/cmd/krew")
	build.Dir = "../../test/krew"
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	published := httptest.NewServer(http.StripPrefix("/kube-ipvs/releases/download/v1.2.3/", http.FileServerFS(os.DirFS(r.out)))) // as a proxy
	defer published.Close()
	for _, system := range systems {
		for arch, machine := range machines {
			t.Run(system+"/"+arch, func(t *testing.T) {
				root := t.TempDir()
				install := exec.CommandContext(t.Context(), krew, "install", "--manifest="+filepath.Join(r.out, "kubectl-ipvs-v1.2.3-krew.yaml"))
				install.Env = append(os.Environ(), "HTTP_PROXY="+published.URL,
					"KREW_ROOT="+root, "KREW_OS="+system, "KREW_ARCH="+arch, "KREW_NO_UPGRADE_CHECK=1")
				output, err := install.CombinedOutput()
				if err != nil || !strings.Contains(string(output), "kubectl apply --server-side -f kube-ipvs-v1.2.3-viewer.yaml") {
					t.Fatalf("krew: %v, and want what it takes\n%s", err, output)
				}
				installed := filepath.Join(root, "store", "ipvs", "v1.2.3")
				if license, err := os.ReadFile(filepath.Join(installed, "LICENSE")); err != nil || !bytes.Contains(license, []byte("Apache License")) {
					t.Errorf("the license: %v", err)
				}
				name := "kubectl-ipvs"
				if system == "windows" {
					name += ".exe"
				}
				info, err := os.Stat(filepath.Join(root, "bin", name))
				if err != nil || info.Mode()&0o111 != 0o111 {
					t.Fatalf("no program: %v %v", info, err)
				}
				testProgram(t, filepath.Join(installed, name), system, machine)
			})
		}
	}
}

// testNoHome makes the plugin for nobody knows which homepage: all archives, and no manifest that leads krew elsewhere.
func testNoHome(t *testing.T, r release) {
	var notes strings.Builder
	r.home, r.out, r.notes = "", t.TempDir(), &notes
	if err := r.writePlugin(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := slices.Collect(maps.Keys(files(t, r.out)))
	isManifest := func(name string) bool { return strings.HasSuffix(name, ".yaml") }
	if len(names) != len(systems)*len(architectures) || slices.ContainsFunc(names, isManifest) {
		t.Errorf("files %v", names)
	}
	want := "release: no manifest for krew: it has the addresses of the archives, and -home is missing\n"
	if told := notes.String(); told != want {
		t.Errorf("told %q", told)
	}
}

// testProgram holds a program to its platform and version.
func testProgram(t *testing.T, path, system string, machine elf.Machine) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	is := false
	switch program := bytes.NewReader(text); system {
	case "linux":
		file, err := elf.NewFile(program)
		is = err == nil && file.Machine == machine
	case "darwin":
		file, err := macho.NewFile(program)
		is = err == nil && file.Cpu == map[elf.Machine]macho.Cpu{elf.EM_X86_64: macho.CpuAmd64, elf.EM_AARCH64: macho.CpuArm64}[machine]
	case "windows":
		machines := map[elf.Machine]uint16{elf.EM_X86_64: pe.IMAGE_FILE_MACHINE_AMD64, elf.EM_AARCH64: pe.IMAGE_FILE_MACHINE_ARM64}
		file, err := pe.NewFile(program)
		is = err == nil && file.Machine == machines[machine]
	}
	if !is {
		t.Errorf("%s is no program for %s and %v", path, system, machine)
	}
	if !bytes.Contains(text, []byte("v1.2.3")) {
		t.Error("the program does not have the version")
	}
}
