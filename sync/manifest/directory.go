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

// maxFile is the largest file that is read, in bytes.
const maxFile = 64 << 20

var errLarge = fmt.Errorf("is larger than %d MiB", maxFile>>20)

// A folder is a folder's files as they were last read.
type folder struct {
	dir     string
	decoder decoder
	known   bool // it was read once
	order   []string
	files   map[string]*file
	problem error // why it could not be read the last time
}

// A file is what a file said.
type file struct {
	sum      [sha256.Size]byte // of its content
	good     []entry           // what it supplies
	kept     []entry           // what it supplied before and no longer does, by mistake
	problems []plan.Problem
	ignored  []ignored
	broken   bool // it has a document that cannot be used
}

func newFolder(dir string) folder {
	return folder{dir: filepath.Clean(dir), decoder: newDecoder(), files: map[string]*file{}}
}

// read reads the folder again. After an error it is what it was before.
func (f *folder) read() error {
	list, err := os.ReadDir(f.dir)
	if f.problem = err; err != nil {
		return err
	}
	f.known, f.order = true, nil
	files := make(map[string]*file)
	for _, e := range list {
		if !wanted(e.Name()) {
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

// wanted says that a file is a manifest by its name. Names that begin with a dot are editors' and ConfigMap volumes' own.
func wanted(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

// readFile returns what a file says now, or nil if it has gone.
func (f *folder) readFile(name string) *file {
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

// keep takes over from what the file said before what it no longer says by mistake.
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
		// Half of a rewrite, or what a full disk left of one. Who wants to say nothing removes the file.
		return nil, errors.New("is empty")
	}
	return out, nil
}

// cause takes the path off an error; the problem names the file.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
