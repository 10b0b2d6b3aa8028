package manifest

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a change is given to be complete: editors write, rename and remove in several steps.
const settle = 100 * time.Millisecond

// A watcher says when a folder may have changed, appeared or been replaced.
type watcher struct {
	dir string // absolute
	fs  *fsnotify.Watcher
}

func newWatcher(dir string) (*watcher, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &watcher{dir: dir, fs: w}, nil
}

func (w *watcher) close() { w.fs.Close() }

// follow watches the folder that has the name now, and the nearest folder above it, where it would be created, renamed or
// replaced.
func (w *watcher) follow() error {
	for _, watched := range w.fs.WatchList() {
		// A folder that another has replaced would keep its watch for ever. One that has ended by itself is no error.
		_ = w.fs.Remove(watched)
	}
	err := w.fs.Add(w.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for above := filepath.Dir(w.dir); ; above = filepath.Dir(above) {
		err := w.fs.Add(above)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || above == filepath.Dir(above) {
			return err
		}
	}
}

// wait returns when the folder may have changed, or at a tick. Its error is the context's.
func (w *watcher) wait(ctx context.Context, tick <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick:
			return nil
		case <-w.fs.Errors: // events were lost
			return w.settle(ctx)
		case e := <-w.fs.Events:
			if w.concerns(e.Name) {
				return w.settle(ctx)
			}
		}
	}
}

// settle lets what belongs to the same change pass.
func (w *watcher) settle(ctx context.Context) error {
	timer := time.NewTimer(settle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return nil
		case <-w.fs.Errors:
		case <-w.fs.Events:
		}
	}
}

// concerns says that a path is in the folder, the folder, or on the way to it.
func (w *watcher) concerns(name string) bool {
	return under(name, w.dir) || under(w.dir, name)
}

// under says that a path is a folder or in it.
func under(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}
