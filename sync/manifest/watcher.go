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

// debounce is the time that a change is given to complete: editors write, rename and remove in several steps.
const debounce = 100 * time.Millisecond

// A watcher waits for changes of a directory, its appearance, and its replacement.
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

// follow watches the directory of that name, and its nearest existing ancestor, in which it would be created, renamed or
// replaced.
func (w *watcher) follow() error {
	for _, watched := range w.fs.WatchList() {
		// A directory that another has replaced would keep its watch for ever. One that has ended by itself is no error.
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

// wait returns when the directory may have changed, or at a tick. Its error is the context's.
func (w *watcher) wait(ctx context.Context, tick <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick:
			return nil
		case <-w.fs.Errors: // events were lost
			return w.debounce(ctx)
		case e := <-w.fs.Events:
			if w.concerns(e.Name) {
				return w.debounce(ctx)
			}
		}
	}
}

// debounce lets the rest of a change pass.
func (w *watcher) debounce(ctx context.Context) error {
	timer := time.NewTimer(debounce)
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

// concerns reports whether a path is the directory, below it, or an ancestor of it.
func (w *watcher) concerns(name string) bool {
	return under(name, w.dir) || under(w.dir, name)
}

// under reports whether a path is a directory or below it.
func under(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}
