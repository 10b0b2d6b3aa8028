// Package sysctl holds kernel settings as values. A Kernel keeps settings; Files is the running kernel's, below
// /proc/sys, and Fake one in memory.
package sysctl

import (
	"context"
	"strings"
)

// A Setting is one kernel setting and its desired value.
type Setting struct {
	Name  string // the path below /proc/sys, such as "net/ipv4/vs/conntrack"
	Value string // in the form of Normal
}

// String returns the sysctl(8) command that makes the setting. The command takes slashes as well as dots; with slashes,
// interface names that contain a dot stay unambiguous.
func (s Setting) String() string {
	if strings.ContainsAny(s.Value, " \t") {
		return "sysctl -w '" + s.Name + "=" + s.Value + "'"
	}
	return "sysctl -w " + s.Name + "=" + s.Value
}

// Normal returns a value in the form for comparisons: without surrounding space, and with one blank between its fields
// where the kernel writes tabs ("32768\t60999\n" is "32768 60999").
func Normal(value string) string { return strings.Join(strings.Fields(value), " ") }

// A Kernel keeps settings.
type Kernel interface {
	// Read returns the values, in the form of Normal, of all readable names. The error joins one for each of the
	// others: os.ErrNotExist if the kernel lacks the setting (a module is not loaded, the kernel is older or newer),
	// os.ErrInvalid if it is no name of a setting.
	Read(ctx context.Context, names []string) (map[string]string, error)

	// Do makes the settings in order and returns one error for each, or nil if all succeeded. A failed one does not
	// stop the others. A setting that already has its value is success, even if it cannot be written. errors.Is
	// matches os.ErrNotExist, os.ErrPermission and os.ErrInvalid (no such name, or a value that the kernel rejects).
	Do(ctx context.Context, settings []Setting) []error
}
