package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A logFile is a container's log in the form that the kubelet reads.
type logFile struct {
	path string
	mu   sync.Mutex
	file *os.File // nil: nobody wants the log, or it is closed
}

// openLog makes the log; without a path, one that keeps nothing.
func openLog(path string) (l *logFile, err error) {
	l = &logFile{path: path}
	if path == "" {
		return l, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	l.file, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return l, err
}

// stream returns where a container's program writes "stdout" or "stderr".
func (l *logFile) stream(name string) io.Writer { return stream{l, name} }

type stream struct {
	log  *logFile
	name string
}

// Write writes each line with its time, and whether it is a full one or a part.
func (s stream) Write(text []byte) (int, error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if s.log.file == nil {
		return len(text), nil
	}
	now := time.Now().Format(time.RFC3339Nano)
	for line := range bytes.Lines(text) {
		tag := "P"
		if all, full := bytes.CutSuffix(line, []byte("\n")); full {
			line, tag = all, "F"
		}
		if _, err := fmt.Fprintf(s.log.file, "%s %s %s %s\n", now, s.name, tag, line); err != nil {
			return 0, err
		}
	}
	return len(text), nil
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
