// Release makes all files of a release: binaries, an image of both architectures, the Helm chart, the manifests, an SBOM for each
// architecture, archives of kubectl's plugin with krew's manifest, and checksums. The same sources and the same Go make the same bytes.
//
//	cd deploy/release && go run . -version v1.2.3 -home https://github.com/OWNER/kube-ipvs -out DIRECTORY
//
// With -rootfs it makes the image's root without the program, for deploy/Dockerfile:
//
//	go run . -rootfs DIRECTORY -arch arm64
//
// It takes dpkg-deb (Debian's dpkg) to unpack packages.
package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var architectures = []string{"amd64", "arm64"}

func main() {
	r := release{notes: os.Stderr}
	var rootfs, arch string
	flag.StringVar(&r.version, "version", "", "version, such as v1.2.3")
	flag.StringVar(&r.out, "out", "", "directory for the files of the release; what is in it stays")
	flag.StringVar(&r.home, "home", "", "homepage, below which the files are published as GitHub does; without it, krew gets no manifest")
	flag.StringVar(&r.source, "source", "../..", "root of the repository")
	flag.StringVar(&r.cache, "cache", filepath.Join(os.TempDir(), "kube-ipvs-debs"), "directory for downloaded packages")
	flag.StringVar(&rootfs, "rootfs", "", "directory for the image's root; nothing else is made")
	flag.StringVar(&arch, "arch", "amd64", "architecture of -rootfs")
	flag.Parse()
	var err error
	if rootfs != "" {
		err = writeRoot(context.Background(), r.cache, arch, rootfs)
	} else {
		err = r.make(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// A release is what the command line asks for.
type release struct {
	version string // v1.2.3: of binaries and image, and without v that of the chart
	home    string // the files are published at its /releases/download/v1.2.3; empty: nobody knows where
	source  string
	out     string
	cache   string
	notes   io.Writer // for what is not made
}

// make makes all files. An error leaves some of them.
func (r release) make(ctx context.Context) error {
	if !regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`).MatchString(r.version) || r.out == "" {
		return errors.New("-version (such as v1.2.3) and -out are missing")
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	var platforms []platform
	for _, arch := range architectures {
		p, err := r.platform(ctx, arch)
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		platforms = append(platforms, p)
	}
	if err := r.writeImage(platforms); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	if err := r.writeChart(); err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	if err := r.writeManifests(); err != nil {
		return fmt.Errorf("manifests: %w", err)
	}
	if err := r.writePlugin(ctx); err != nil {
		return fmt.Errorf("kubectl-ipvs: %w", err)
	}
	return r.writeChecksums()
}

// A platform is all that the image of an architecture is made of.
type platform struct {
	arch     string
	binary   []byte
	packages []debian
	root     []entry
}

// platform builds the binary, fetches the packages and writes the SBOM.
func (r release) platform(ctx context.Context, arch string) (platform, error) {
	p := platform{arch: arch}
	path := r.file("-linux-" + arch)
	if err := r.build(ctx, "./cmd/kube-ipvs", "linux", arch, path); err != nil {
		return p, err
	}
	var err error
	if p.binary, err = os.ReadFile(path); err != nil {
		return p, err
	}
	if p.packages, err = packagesOf(arch); err != nil {
		return p, err
	}
	if p.root, err = rootOf(ctx, r.cache, p.packages); err != nil {
		return p, err
	}
	return p, r.writeSBOM(path, p.packages)
}

// file returns the path of a file of the release.
func (r release) file(suffix string) string {
	return filepath.Join(r.out, "kube-ipvs-"+r.version+suffix)
}

// writeChecksums writes the sums of all files, as sha256sum does.
func (r release) writeChecksums() error {
	const name = "SHA256SUMS"
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	var sums strings.Builder
	for _, e := range entries {
		if e.Name() == name {
			continue
		}
		text, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(text), e.Name())
	}
	return os.WriteFile(filepath.Join(r.out, name), []byte(sums.String()), 0o644)
}
