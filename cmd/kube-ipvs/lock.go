package main

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// lockName is an abstract socket's, which belongs to a network namespace, as all does that is programmed, and is gone with the
// process that has it, however that ends.
const lockName = "@kube-ipvs"

// errLocked is what helps: two that have other flags, or one that removes, would mend each other's work for ever.
var errLocked = errors.New("another kube-ipvs runs in this network namespace (ss -xlp src " + lockName + "): stop it first")

// lock keeps others from programming this network namespace until it is unlocked.
func lock() (unlock func() error, err error) {
	l, err := net.Listen("unix", lockName)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, errLocked
	}
	if err != nil {
		return nil, fmt.Errorf("lock the network namespace: %w", err)
	}
	return l.Close, nil
}
