package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
	"time"
)

// systems are those that kubectl's plugin is for, on all architectures.
var systems = []string{"darwin", "linux", "windows"}

// krewManifest is the manifest of krew, kubectl's manager of plugins.
//
//go:embed krew.yaml
var krewManifest string

// A krewPlatform is an entry of krew's manifest: an archive of the plugin.
type krewPlatform struct{ OS, Arch, File, SHA256, Bin string }

// writePlugin writes an archive of kubectl's plugin for each platform, and the manifest by which krew installs them. That has their
// addresses, so it takes a homepage.
func (r release) writePlugin(ctx context.Context) error {
	var platforms []krewPlatform
	for _, system := range systems {
		for _, arch := range architectures {
			p, err := r.writePluginFor(ctx, system, arch)
			if err != nil {
				return fmt.Errorf("%s/%s: %w", system, arch, err)
			}
			platforms = append(platforms, p)
		}
	}
	if r.home == "" {
		_, err := fmt.Fprintln(r.notes, "release: no manifest for krew: it has the addresses of the archives, and -home is missing")
		return err
	}
	manifest, err := template.New("krew.yaml").Parse(krewManifest)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := manifest.Execute(&out, map[string]any{"Version": r.version, "Home": r.home, "Platforms": platforms}); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, "kubectl-ipvs-"+r.version+"-krew.yaml"), out.Bytes(), 0o644)
}

// writePluginFor writes the archive for a platform: the program and the license.
func (r release) writePluginFor(ctx context.Context, system, arch string) (krewPlatform, error) {
	p := krewPlatform{OS: system, Arch: arch, File: fmt.Sprintf("kubectl-ipvs-%s-%s-%s", r.version, system, arch), Bin: "kubectl-ipvs"}
	archiveOf, suffix := tarGzipOf, ".tar.gz"
	if system == "windows" {
		archiveOf, suffix, p.Bin = zipOf, ".zip", p.Bin+".exe"
	}
	p.File += suffix
	dir, err := os.MkdirTemp("", "kubectl-ipvs-")
	if err != nil {
		return p, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, p.Bin)
	if err := r.build(ctx, "./cmd/kubectl-ipvs", system, arch, path); err != nil {
		return p, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	license, err := os.ReadFile(filepath.Join(r.source, "LICENSE"))
	if err != nil {
		return p, err
	}
	archive, err := archiveOf([]entry{
		{tar.Header{Typeflag: tar.TypeReg, Name: "LICENSE", Mode: 0o644}, license},
		{tar.Header{Typeflag: tar.TypeReg, Name: p.Bin, Mode: 0o755}, program},
	})
	if err != nil {
		return p, err
	}
	p.SHA256 = fmt.Sprintf("%x", sha256.Sum256(archive))
	return p, os.WriteFile(filepath.Join(r.out, p.File), archive, 0o644)
}

// zipOf returns files as a zip archive with one time, the first that the format has.
func zipOf(entries []entry) ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.Name, Method: zip.Deflate, Modified: time.Date(1980, time.January, 1, 0, 0, 0, 0, time.UTC)}
		h.SetMode(os.FileMode(e.Mode))
		file, err := w.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := file.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
