//go:build kernel && neighbours

package neighbours

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
)

const tcp = inet.TCP

// own puts a copy over a folder of the machine's, so that what is written there stays in the place. The test kernel's root is
// the machine's own.
func (p *Place) own(ctx context.Context, folder string) error {
	mine := filepath.Join(p.Dir, "own", folder)
	if err := os.MkdirAll(filepath.Dir(mine), 0o755); err != nil {
		return err
	}
	if _, err := run(ctx, "cp", "-a", folder, mine); err != nil {
		return err
	}
	return p.over(mine, folder)
}

// over lets one file or folder stand in the place of another.
func (p *Place) over(this, that string) error {
	if err := unix.Mount(this, that, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("put %s over %s: %w", this, that, err)
	}
	p.undo = append(p.undo, func() error { return unix.Unmount(that, unix.MNT_DETACH) })
	return nil
}

// legacy reports whether the test kernel has the legacy tables only.
func legacy(ctx context.Context) (bool, error) {
	version, err := run(ctx, "iptables", "-V")
	return strings.Contains(version, "legacy"), err
}

// ownTables lets programs that call iptables by its path call the one that the test kernel's tables need.
func (p *Place) ownTables(ctx context.Context) error {
	is, err := legacy(ctx)
	if err != nil || !is {
		return err
	}
	return p.over("/usr/sbin/xtables-legacy-multi", "/usr/sbin/xtables-nft-multi")
}

// path returns a PATH that has these programs alone: scripts take what else they find for a kernel that can do it.
func (p *Place) path(names ...string) (string, error) {
	dir := filepath.Join(p.Dir, "path")
	errs := []error{os.MkdirAll(dir, 0o755)}
	for _, name := range names {
		found, err := exec.LookPath(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if real, err := filepath.EvalSymlinks(found); err == nil && strings.HasPrefix(filepath.Base(real), "xtables-") {
			found = real // it goes by the name that it is called by
		}
		if err := os.Symlink(found, filepath.Join(dir, name)); !errors.Is(err, os.ErrExist) {
			errs = append(errs, err)
		}
	}
	return dir, errors.Join(errs...)
}
