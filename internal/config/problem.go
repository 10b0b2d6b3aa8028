package config

import (
	"errors"
	"fmt"
	"strings"
)

// Problem is one fault of a configuration.
type Problem struct {
	Setting string // the flag as given on a command line, "--vip-mode", or the field's path in the file, "ipvs.scheduler"
	Value   string
	Message string // the broken rule, or the remedy
	Path    string // kube-proxy's name of the field in its own messages, if the value came from a file and it has one
}

// Error implements error.
func (p *Problem) Error() string {
	s := p.Setting + "=" + p.Value + ": " + p.Message
	if !strings.HasPrefix(p.Setting, "--") {
		s = p.Setting + ": " + p.Value + ": " + p.Message
	}
	if p.Path != "" {
		s += " (" + p.Path + ")"
	}
	return s
}

// Note warns the user of a setting that is accepted without effect, or with another effect than in kube-proxy.
type Note struct {
	Setting string // as in Problem
	Value   string
	Message string
}

// String returns the note in one line.
func (n Note) String() string {
	if n.Value == "" {
		return n.Setting + ": " + n.Message
	}
	return n.Setting + ": " + n.Value + ": " + n.Message
}

// A review collects the problems of a configuration, and the notes, in order.
type review struct {
	fromFile bool // fields were given by a file, not by flags
	problems []error
	notes    []Note
}

// bad adds a problem.
func (r *review) bad(s setting, value any, format string, args ...any) {
	p := &Problem{Setting: r.name(s), Value: fmt.Sprint(value), Message: fmt.Sprintf(format, args...)}
	if r.isField(s) && s.path != "" {
		p.Path = "KubeProxyConfiguration." + s.path
	}
	r.problems = append(r.problems, p)
}

// note adds a note.
func (r *review) note(s setting, value any, format string, args ...any) {
	r.notes = append(r.notes, Note{Setting: r.name(s), Value: fmt.Sprint(value), Message: fmt.Sprintf(format, args...)})
}

func (r *review) err() error { return errors.Join(r.problems...) }

// isField reports whether the setting's value is a field of the file.
func (r *review) isField(s setting) bool { return r.fromFile && s.field != "" || s.flag == "" }

// name returns the setting's name in the source of its value.
func (r *review) name(s setting) string {
	if r.isField(s) {
		return s.field
	}
	return "--" + s.flag
}
