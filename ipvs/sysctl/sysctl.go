// Package sysctl holds kernel settings as values. A Kernel keeps settings; Files is the running kernel's, below
// /proc/sys, and Fake one in memory.
package sysctl

import (
	"context"
	"strings"
)

// A Setting is one kernel setting and the value that it is to have.
type Setting struct {
	Name  string // the path below /proc/sys, such as "net/ipv4/vs/conntrack"
	Value string // in the form of Normal
}

// String returns the setting as an operator would type it; sysctl(8) takes slashes as well as dots, and a name with
// slashes stays right where an interface has a dot in its name.
func (s Setting) String() string {
	if strings.ContainsAny(s.Value, " \t") {
		return "sysctl -w '" + s.Name + "=" + s.Value + "'"
	}
	return "sysctl -w " + s.Name + "=" + s.Value
}

// Normal returns a value in the form in which values are compared: without space around it, and with one blank between
// its fields where the kernel writes tabs ("32768\t60999\n" is "32768 60999").
func Normal(value string) string { return strings.Join(strings.Fields(value), " ") }

// A Kernel keeps settings.
type Kernel interface {
	// Read returns the values, in the form of Normal, of those names that can be read. The error joins one for each
	// of the others: os.ErrNotExist if the kernel lacks the setting (a module is not loaded, the kernel is older or
	// newer), os.ErrInvalid if it is no name of a setting.
	Read(ctx context.Context, names []string) (map[string]string, error)

	// Do makes the settings in their order and returns one error for each, or nil if all went well. One that fails
	// stops no other. A setting that has its value already is success, also where it cannot be written. errors.Is
	// tells os.ErrNotExist, os.ErrPermission and os.ErrInvalid (no such name, or a value that the kernel does not
	// take).
	Do(ctx context.Context, settings []Setting) []error
}
