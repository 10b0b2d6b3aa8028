package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"path/filepath"
)

// documents yields the non-empty documents of a file, or an error in one.
func documents(name string, content []byte) iter.Seq2[[]byte, error] {
	if filepath.Ext(name) == ".json" {
		return jsonDocuments(content)
	}
	return yamlDocuments(content)
}

// yamlDocuments splits a file at YAML's markers: a line `---` begins a document and may hold some of it, a line `...`
// ends one (YAML 1.2, 9.1). The YAML library decodes the first document of a text and ignores the rest, and
// apimachinery's util/yaml knows neither `--- value` nor `...`.
func yamlDocuments(content []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for len(content) > 0 {
			n := firstDocument(content)
			if doc := content[:n]; !empty(doc) && !yield(doc, nil) {
				return
			}
			content = content[n:]
		}
	}
}

// firstDocument returns the length of the first document, with its markers.
func firstDocument(content []byte) int {
	n := 0
	for line := range bytes.Lines(content) {
		if n > 0 && marker(line, "---") {
			return n
		}
		n += len(line)
		if marker(line, "...") {
			return n
		}
	}
	return n
}

// marker reports whether a line is one of YAML's markers, with or without text behind it.
func marker(line []byte, mark string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(mark))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// empty reports whether a document holds only blanks, comments, markers and directives.
func empty(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		if marker(line, "---") || marker(line, "...") {
			line = line[len("---"):]
		} else if line[0] == '%' {
			continue
		}
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// jsonDocuments yields the values of a JSON file. The text behind a syntax error is lost.
func jsonDocuments(content []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for dec := json.NewDecoder(bytes.NewReader(content)); ; {
			var raw json.RawMessage
			err := dec.Decode(&raw)
			if errors.Is(err, io.EOF) || !yield(raw, err) || err != nil {
				return
			}
		}
	}
}
