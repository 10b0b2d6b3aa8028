package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// writeChart writes the chart's archive, with the version.
func (r release) writeChart() error {
	chart := os.DirFS(filepath.Join(r.source, "deploy", "chart"))
	var entries []entry
	err := fs.WalkDir(chart, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == "monitoring/kustomization.yaml" { // .helmignore has it, too
			return err
		}
		data, err := fs.ReadFile(chart, name)
		if err == nil && name == "Chart.yaml" {
			data, err = r.versioned(data)
		}
		entries = append(entries, entry{tar.Header{Typeflag: tar.TypeReg, Name: path.Join("kube-ipvs", name), Mode: 0o644}, data})
		return err
	})
	if err != nil {
		return err
	}
	archive, err := tarGzipOf(entries)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, "kube-ipvs-"+r.chartVersion()+".tgz"), archive, 0o644)
}

func (r release) chartVersion() string { return strings.TrimPrefix(r.version, "v") }

// versioned sets the versions in Chart.yaml.
func (r release) versioned(chart []byte) ([]byte, error) {
	for field, value := range map[string]string{"version": r.chartVersion(), "appVersion": r.version} {
		line := regexp.MustCompile(`(?m)^` + field + `: .*$`)
		if len(line.FindAll(chart, -1)) != 1 {
			return nil, fmt.Errorf("not one %s in Chart.yaml", field)
		}
		chart = line.ReplaceAll(chart, []byte(field+": "+value))
	}
	return chart, nil
}

// writeManifests writes the manifests with the version as the image's tag, and the rights of kubectl's plugin.
func (r release) writeManifests() error {
	files, err := filepath.Glob(filepath.Join(r.source, "deploy", "manifests", "*.yaml"))
	if err != nil {
		return err
	}
	files = append(files, filepath.Join(r.source, "deploy", "plugin", "viewer.yaml"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text = bytes.ReplaceAll(text, []byte("image: kube-ipvs:dev\n"), []byte("image: kube-ipvs:"+r.version+"\n"))
		if err := os.WriteFile(r.file("-"+filepath.Base(file)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
