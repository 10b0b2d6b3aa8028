package main

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// lockName is the name of an abstract socket. It belongs to a network namespace, like everything that is programmed, and
// vanishes with its process, however that ends.
const lockName = "@kube-ipvs"

// errLocked names the remedy: two processes with different flags, or one that cleans up, would repair each other's work
// forever.
var errLocked = errors.New("another kube-ipvs runs in this network namespace (ss -xlp src " + lockName + "): stop it first")

// lock prevents others from programming this network namespace until it is unlocked.
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
