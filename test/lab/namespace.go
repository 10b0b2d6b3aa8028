package lab

import (
	"errors"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// errClosed says that a host is gone.
var errClosed = errors.New("the lab is closed")

// namespace is a network namespace with a thread in it. It has no name; it ends when the thread has left it and the last
// descriptor that belongs to it is closed.
type namespace struct {
	calls chan func()
	leave chan struct{} // closed: the thread is to leave
	left  chan struct{} // closed: it has
}

// newNamespace makes a namespace and the thread that works in it.
func newNamespace() (*namespace, error) {
	n := &namespace{calls: make(chan func()), leave: make(chan struct{}), left: make(chan struct{})}
	made := make(chan error)
	go n.occupy(made)
	return n, <-made
}

// occupy works in a new namespace, on a thread of its own, until that is to leave.
func (n *namespace) occupy(made chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The first thread must stay where it is: /proc/self/net, and with it /proc/net, is what that thread sees.
		// While we hold it, the work gets another one.
		defer runtime.UnlockOSThread()
		go n.occupy(made)
		<-n.left
		return
	}
	defer close(n.left)
	before, err := netns.Get()
	if err == nil {
		defer before.Close()
		err = unix.Unshare(unix.CLONE_NEWNET)
	}
	made <- err
	if err != nil {
		return // with the thread, which is not unlocked
	}
	n.work()
	if netns.Set(before) == nil {
		runtime.UnlockOSThread()
	}
}

// work runs what do brings.
func (n *namespace) work() {
	for {
		select {
		case call := <-n.calls:
			call()
		case <-n.leave:
			return
		}
	}
}

// do runs fn on the namespace's thread. Sockets and files below /proc/sys/net that fn opens are those of the namespace.
func (n *namespace) do(fn func() error) error {
	result := make(chan error, 1)
	select {
	case n.calls <- func() { result <- fn() }:
		return <-result
	case <-n.leave:
		return errClosed
	}
}

// close returns when the thread has left.
func (n *namespace) close() {
	close(n.leave)
	<-n.left
}
