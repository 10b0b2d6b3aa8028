// Package spec has what the container runtime tells podinit of a container.
package spec

// A Spec describes a container. It is podinit's argument, as JSON.
type Spec struct {
	Root     string // an empty folder
	Hostname string
	Files    map[string]string // contents of files
	Mounts   []Mount
	Env      []string
	Dir      string
	Args     []string
	UID, GID int
	Groups   []int
}

// A Mount is a file or folder of the node that the container sees.
type Mount struct {
	From, To string
	ReadOnly bool
}
