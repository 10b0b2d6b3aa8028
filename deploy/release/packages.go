package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// packagesLock is written by the script lock.
//
//go:embed packages.lock
var packagesLock string

// distribution is where packages.lock is of.
const distribution = "debian-12"

// A debian is a package of Debian.
type debian struct {
	name, version, arch string // arch: of the package, possibly all
	sha256              string
	url                 string
}

// packagesOf returns the locked packages of an architecture.
func packagesOf(arch string) ([]debian, error) {
	var out []debian
	for line := range strings.Lines(packagesLock) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return nil, fmt.Errorf("packages.lock: %q: want ARCHITECTURE SHA256 URL", line)
		}
		if fields[0] != arch {
			continue
		}
		file, err := url.PathUnescape(path.Base(fields[2]))
		if err != nil {
			return nil, fmt.Errorf("packages.lock: %w", err)
		}
		parts := strings.Split(strings.TrimSuffix(file, ".deb"), "_")
		if len(parts) != 3 {
			return nil, fmt.Errorf("packages.lock: %s: want NAME_VERSION_ARCHITECTURE.deb", file)
		}
		out = append(out, debian{name: parts[0], version: parts[1], arch: parts[2], sha256: fields[1], url: fields[2]})
	}
	if out == nil {
		return nil, fmt.Errorf("packages.lock has no packages for %s", arch)
	}
	return out, nil
}

// fetch returns the path of the package's file. Only a file with the locked checksum is kept and used.
func (d debian) fetch(ctx context.Context, cache string) (string, error) {
	file := filepath.Join(cache, d.sha256+".deb")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = download(ctx, d.url)
	}
	if err != nil {
		return "", fmt.Errorf("package %s %s: %w (run deploy/release/lock if Debian has a newer one)", d.name, d.version, err)
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(text)); sum != d.sha256 {
		return "", fmt.Errorf("package %s: checksum %s, want %s", d.name, sum, d.sha256)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	// By a rename: others may read the cache at the same time.
	partial, err := os.CreateTemp(cache, "partial-")
	if err != nil {
		return "", err
	}
	_, err = partial.Write(text)
	if err := errors.Join(err, partial.Close()); err != nil {
		return "", err
	}
	return file, os.Rename(partial.Name(), file)
}

func download(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	return io.ReadAll(response.Body)
}

// unpack returns the package's files as a tar archive.
func (d debian) unpack(ctx context.Context, cache string) ([]byte, error) {
	file, err := d.fetch(ctx, cache)
	if err != nil {
		return nil, err
	}
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("unpack %s: %w: %s", d.name, err, stderr.String())
	}
	return out.Bytes(), nil
}
