package manifest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"kube-ipvs/sync/plan"
)

// maxFile is the size limit of a file, in bytes.
const maxFile = 64 << 20

var errLarge = fmt.Errorf("is larger than %d MiB", maxFile>>20)

// A directory holds the content of a directory's files when it was last read.
type directory struct {
	dir     string
	decoder decoder
	known   bool // it was read at least once
	order   []string
	files   map[string]*file
	problem error // of the last read
}

// A file holds the content of a file.
type file struct {
	sum      [sha256.Size]byte // of its content
	good     []entry           // its objects
	kept     []entry           // objects of an earlier version that a mistake hides now
	problems []plan.Problem
	ignored  []ignored
	broken   bool // it has an unusable document
}

func newDirectory(dir string) directory {
	return directory{dir: filepath.Clean(dir), decoder: newDecoder(), files: map[string]*file{}}
}

// read reads the directory again. After an error its content is unchanged.
func (f *directory) read() error {
	list, err := os.ReadDir(f.dir)
	if f.problem = err; err != nil {
		return err
	}
	f.known, f.order = true, nil
	files := make(map[string]*file)
	for _, e := range list {
		if !isManifest(e.Name()) {
			continue
		}
		if now := f.readFile(e.Name()); now != nil {
			files[e.Name()] = now
			f.order = append(f.order, e.Name())
		}
	}
	f.files = files
	return nil
}

// isManifest reports whether a file is a manifest by its name. Names that begin with a dot belong to editors and to
// ConfigMap volumes.
func isManifest(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

// readFile returns the content of a file, or nil if it is gone.
func (f *directory) readFile(name string) *file {
	before := f.files[name]
	content, err := readRegular(filepath.Join(f.dir, name))
	if err != nil {
		if _, e := os.Lstat(filepath.Join(f.dir, name)); errors.Is(e, fs.ErrNotExist) {
			return nil
		}
		now := &file{broken: true, problems: []plan.Problem{{Object: name, Field: ".", Reason: err.Error()}}}
		now.keep(before)
		return now
	}
	sum := sha256.Sum256(content)
	if before != nil && before.sum == sum {
		return before
	}
	now := f.decoder.parse(name, content)
	now.sum = sum
	now.keep(before)
	return now
}

// keep keeps the objects of an earlier version that a mistake hides now.
func (f *file) keep(before *file) {
	if !f.broken || before == nil {
		return
	}
	supplied := map[id]bool{}
	for _, e := range f.good {
		supplied[e.id] = true
	}
	for _, e := range slices.Concat(before.good, before.kept) {
		if !supplied[e.id] {
			f.kept = append(f.kept, e)
		}
	}
}

// readRegular reads a regular file of reasonable size.
func readRegular(path string) ([]byte, error) {
	// Opening a pipe would wait for its writer, without O_NONBLOCK.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, cause(err)
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	case info.Size() > maxFile:
		return nil, errLarge
	}
	out, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, cause(err)
	case len(out) > maxFile: // it has grown
		return nil, errLarge
	case len(out) == 0:
		// Half of a rewrite, or the result of a full disk. A file is removed to remove its objects.
		return nil, errors.New("is empty")
	}
	return out, nil
}

// cause removes the path from an error; the problem names the file.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
