//go:build kernel

package survive

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kube-ipvs/test/child"
)

// onlyIPv4 is a Service that has no address of IPv6.
const onlyIPv4 = `
apiVersion: v1
kind: Service
metadata: {namespace: default, name: four}
spec:
  clusterIP: 10.96.44.44
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: default, name: four-1, labels: {kubernetes.io/service-name: four}}
addressType: IPv4
ports: [{port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.244.1.11], nodeName: node1, conditions: {ready: true}}]
`

// set writes a kernel setting for as long as the test lasts.
func (w *world) set(name, value string) {
	w.t.Helper()
	path := "/proc/sys/" + name
	was := w.shell("cat " + path)
	w.shell("echo " + value + " > " + path)
	w.t.Cleanup(func() { check(w.t, os.WriteFile(path, []byte(was), 0o644)) })
}

// said counts the lines of the program's log that hold a text.
func (w *world) said(text string) int {
	w.t.Helper()
	log, err := os.ReadFile(w.Log)
	check(w.t, err)
	return strings.Count(string(log), text)
}

// awaits waits until something is so.
func (w *world) awaits(what string, limit time.Duration, is func() bool) {
	w.t.Helper()
	for begin := time.Now(); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Since(begin) > limit {
			w.t.Errorf("not after %v: %s", limit, what)
			return
		}
	}
}

// answers asks the program's health.
func (w *world) answers(path string) bool {
	_, err := child.Get(context.Background(), "http://"+child.Healthz+path)
	return err == nil
}

// A node without IPv6 is healthy as long as no Service needs it, and says once that there is none; then it is not, but is no
// reason to start the program anew; and it serves IPv6 when that is switched on.
func TestIPv6ThatIsOff(t *testing.T) {
	w := newWorld(t)
	w.Args = append(w.Args, "--ipvs-sync-period=2s")
	w.folder.write("four.yaml", onlyIPv4)
	w.set("net/ipv6/conf/all/disable_ipv6", "1")
	w.start()
	w.settle()
	time.Sleep(10 * time.Second)
	if !w.answers("/healthz") || !w.answers("/livez") || !w.answers("/readyz") {
		t.Error("not healthy without IPv6 though no Service needs it")
	}
	if n, failed := w.said("is left alone until"), w.said("Not everything could be programmed"); n != 1 || failed != 0 {
		t.Errorf("said %d times that IPv6 is given up, and %d times that not everything could be programmed, want 1 and 0", n, failed)
	}
	if got := w.shell("ipvsadm -Sn"); !strings.Contains(got, "-a -t 10.96.44.44:80 -r 10.244.1.11:8080") {
		t.Errorf("IPv4 is not served: %s", got)
	}
	w.folder.put(service{n: 1}, w.endpoints("pod1")...)
	w.awaits("/healthz fails while a Service needs IPv6", 20*time.Second, func() bool { return !w.answers("/healthz") })
	w.awaits("the Service is told", 30*time.Second, func() bool { return w.said("IPv6 does not work on this node") > 0 })
	if !w.answers("/livez") {
		t.Error("/livez fails for what a new start does not mend")
	}
	w.shell("echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6; ip -6 addr add fd00:192:168:77::11/64 dev eth0 nodad")
	w.awaits("healthy when IPv6 is on again", 30*time.Second, func() bool { return w.answers("/healthz") })
	if got := w.shell("ipvsadm -Sn"); !strings.Contains(got, "[fd00:10:96::") {
		t.Errorf("IPv6 is not served: %s", got)
	}
}

// Where IPv6 is off for new links alone, and the node has it, it is switched on for ours.
func TestIPv6ThatIsOffForNewLinks(t *testing.T) {
	w := newWorld(t)
	w.set("net/ipv6/conf/default/disable_ipv6", "1")
	w.folder.put(service{n: 1}, w.endpoints("pod1")...)
	w.start()
	w.settle()
	if failed := w.said("Not everything could be programmed"); failed != 0 {
		t.Errorf("said %d times that not everything could be programmed", failed)
	}
	for range 3 {
		w.awaits("the link has IPv6", 10*time.Second, func() bool {
			off, err := os.ReadFile("/proc/sys/net/ipv6/conf/kube-ipvs0/disable_ipv6")
			return err == nil && string(off) == "0\n" && strings.Contains(w.shell("ip -6 route show table all dev kube-ipvs0"), "fd00:10:96::/112")
		})
		w.shell("ip link del kube-ipvs0")
	}
}

// advertise sends a router advertisement from the router to the nodes.
func (w *world) advertise() error {
	return w.Router.Do(func() error {
		link, err := net.InterfaceByName("lan")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		// Hop limit, flags and the router's lifetime of half an hour (RFC 4861, 4.2); the kernel adds the checksum.
		message := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
		everybody := &unix.SockaddrInet6{Addr: [16]byte{0: 0xff, 1: 0x02, 15: 1}, ZoneId: uint32(link.Index)}
		return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
			unix.Sendto(fd, message, 0, everybody), unix.Close(fd))
	})
}

// The default route that a node has from a router advertisement outlives the first IPv6 Service; the node's administrator is
// told what to do, once, and when it is done the kernel forwards and the route is still there.
func TestAdvertisedRoute(t *testing.T) {
	w := newWorld(t)
	w.set("net/ipv6/conf/all/forwarding", "0")
	w.set("net/ipv6/conf/eth0/accept_ra", "1")
	w.shell("ip -6 route del default")
	advertised := func() bool { return strings.Contains(w.shell("ip -6 route show default"), "proto ra") }
	w.awaits("a route from a router advertisement", 10*time.Second, func() bool {
		check(t, w.advertise())
		time.Sleep(100 * time.Millisecond)
		return advertised()
	})
	forwarding := func() string { return strings.TrimSpace(w.shell("cat /proc/sys/net/ipv6/conf/all/forwarding")) }
	w.folder.put(service{n: 1}, w.endpoints("pod1")...)
	w.start()
	w.settle()
	time.Sleep(15 * time.Second)
	if n := w.said("accept_ra=2"); !advertised() || forwarding() != "0" || n != 1 || !w.answers("/healthz") {
		t.Errorf("the route is there: %v; forwarding is %s; what to do was said %d times", advertised(), forwarding(), n)
	}
	w.shell("echo 2 > /proc/sys/net/ipv6/conf/eth0/accept_ra")
	w.awaits("forwarding is on", 90*time.Second, func() bool { return forwarding() == "1" })
	if !advertised() {
		t.Errorf("the route is gone: %s", fmt.Sprint(w.shell("ip -6 route")))
	}
}
