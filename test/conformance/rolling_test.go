package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kube-ipvs/test/kept"
)

// TestProbe lets a prober talk to servers that do well and to some that do not.
func TestProbe(t *testing.T) {
	var who atomic.Value
	who.Store("first")
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, who.Load()) }))
	defer web.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go func() {
		buffer := make([]byte, 256)
		for {
			_, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			udp.WriteTo([]byte("datagrams"), from)
		}
	}()
	dir := t.TempDir()
	list, report := filepath.Join(dir, "targets"), filepath.Join(dir, "report")
	targets := []target{
		{Name: "web", Proto: "tcp", At: netip.MustParseAddrPort(web.Listener.Addr().String())},
		{Name: "datagrams", Proto: "udp", At: netip.MustParseAddrPort(udp.LocalAddr().String())},
	}
	if err := kept.Write(list, targets); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*heldPause)
	defer cancel()
	time.AfterFunc(2*heldPause, func() { who.Store("second") })
	if err := runProbe(ctx, []string{"-from=here", "-targets=" + list, "-report=" + report}); err != nil {
		t.Fatal(err)
	}
	var got seen
	if err := kept.Read(report, &got); err != nil {
		t.Fatal(err)
	}
	tcp, datagrams := got["web"], got["datagrams"]
	if tcp.Broken != 1 || tcp.Held != 0 || tcp.New == 0 || tcp.Failed != 0 || !strings.Contains(fmt.Sprint(tcp.Why), "second answers in the place of first") {
		t.Errorf("over TCP: %+v", tcp)
	}
	if datagrams.Held != 1 || datagrams.Broken != 0 || datagrams.New == 0 || datagrams.Failed != 0 {
		t.Errorf("over UDP: %+v", datagrams)
	}
}

// TestRefused counts connections that nobody takes.
func TestRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := target{Name: "nobody", Proto: "tcp", At: netip.MustParseAddrPort(l.Addr().String())}
	l.Close()
	p := prober{from: "here", seen: map[string]*counts{at.Name: {}}}
	p.try(at)
	if c := p.seen[at.Name]; c.New != 1 || c.Failed != 1 || !strings.Contains(fmt.Sprint(c.Why), "here to nobody, new:") {
		t.Errorf("%+v", c)
	}
	conn, other := net.Pipe()
	other.Close()
	p.hold(t.Context(), &talk{target: at, conn: conn, in: bufio.NewReader(conn)})
	if c := p.seen[at.Name]; c.Broken != 1 || c.Held != 0 {
		t.Errorf("%+v", c)
	}
}

// TestJudgeReplacement: what goes wrong past all proxies is not their fault.
func TestJudgeReplacement(t *testing.T) {
	good := seen{"cluster IP": {Held: 3, New: 9, Late: 1}, direct + ", tcp": {Broken: 1, New: 5, Failed: 2}}
	if err := (replacement{In: good, Back: good}).judge(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]counts{"broken": {Broken: 1}, "failed": {New: 9, Failed: 1}} {
		if err := (replacement{In: good, Back: seen{"node port": c}}).judge(); err == nil || !strings.Contains(err.Error(), "on the way back") {
			t.Errorf("%s: error %v, want one that names the way", name, err)
		}
	}
}
