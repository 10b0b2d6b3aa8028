// Command agent is a test's hand on a node. It runs in the test kernel, builds a laboratory there (test/lab) with servers on
// its pods, and does over HTTP what a test outside asks for: send packets and say who answered them, start and end the
// program under test, run a command.
//
//	agent ADDRESS PROGRAM [FLAG...]
//
// It listens at ADDRESS; PROGRAM is what POST /start starts, with these flags. It ends by itself when nobody has asked for
// anything for two minutes: the test is gone then.
package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/lab"
)

// patience is how long the agent waits for a request before it takes the test for dead.
const patience = 2 * time.Minute

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: agent ADDRESS PROGRAM [FLAG...]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run(address string, program []string) error {
	l, err := lab.New(lab.Config{Pods: []string{"pod1", "pod2", "asker"}, RemotePods: []string{"pod3"}})
	if err != nil {
		return err
	}
	if err := serve(l); err != nil {
		return errors.Join(err, l.Close())
	}
	a := &agent{sight: sight{lab: l}, program: program, conns: map[string]*lab.Conn{}}
	idle := time.AfterFunc(patience, func() {
		fmt.Fprintf(os.Stderr, "agent: nobody has asked for anything for %v\n", patience)
		os.Exit(1)
	})
	mux := a.mux()
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		idle.Reset(patience)
		mux.ServeHTTP(w, r)
	}))
}

// serve starts the servers: on every pod but asker, the port 8080 of each protocol under the pod's name, and the TCP port
// 9090 under another.
func serve(l *lab.Lab) error {
	var errs []error
	for _, pod := range []string{"pod1", "pod2", "pod3"} {
		for _, proto := range []inet.Protocol{inet.TCP, inet.UDP, inet.SCTP} {
			_, err := l.Serve(l.Pod(pod), proto, 8080, pod)
			errs = append(errs, err)
		}
		_, err := l.Serve(l.Pod(pod), inet.TCP, 9090, pod+":9090")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
