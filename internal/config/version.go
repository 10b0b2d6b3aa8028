package config

import (
	"fmt"
	"strconv"
)

// A versionFlag is --version, --version=true or --version=raw.
type versionFlag string

const (
	versionNone versionFlag = ""
	versionLine versionFlag = "true"
	versionRaw  versionFlag = "raw"
)

// Set implements pflag.Value.
func (v *versionFlag) Set(s string) error {
	if s == string(versionRaw) {
		*v = versionRaw
		return nil
	}
	yes, err := strconv.ParseBool(s)
	switch {
	case err != nil:
		return fmt.Errorf("must be true, false or raw")
	case yes:
		*v = versionLine
	default:
		*v = versionNone
	}
	return nil
}

// String implements pflag.Value.
func (v *versionFlag) String() string {
	if *v == versionNone {
		return "false"
	}
	return string(*v)
}

// Type implements pflag.Value.
func (v *versionFlag) Type() string { return "version" }

// IsBoolFlag marks a boolean flag for the standard library.
func (v *versionFlag) IsBoolFlag() bool { return true }
