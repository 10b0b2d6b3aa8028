package node

import (
	"encoding/binary"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSocketAddresses(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Fatal("the files of this test are those of a machine with the least significant byte first")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"tcp": "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A\n   1: 0A00600A:8C3E 0A00600A:0050 01\n",
		"udp": "  sl  local_address rem_address   st\n",
		"tcp6": "  sl  local_address                         remote_address\n" +
			"   0: 0000000000000000FFFF00000101A8C0:1F90 0000000000000000FFFF00000201A8C0:C350 01\n" +
			"   1: 001000FD009600000000000001000000:1F90 00000000000000000000000000000000:0000 01\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := SocketAddresses(dir)
	if err != nil {
		t.Fatal(err)
	}
	var want []netip.Addr
	for _, a := range []string{"10.96.0.10", "127.0.0.1", "192.168.1.1", "fd00:1000:0:9600::1"} {
		want = append(want, netip.MustParseAddr(a))
	}
	if diff := cmp.Diff(want, slices.SortedFunc(maps.Keys(got), netip.Addr.Compare), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := os.WriteFile(filepath.Join(dir, "udp6"), []byte("   0: 0100:1F90 0:0 01\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := SocketAddresses(dir); err == nil {
		t.Error("an address of two bytes is no error")
	}
}

// The kernel prints what this machine's parser reads.
func TestOwnSocketAddresses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.77:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got, err := SocketAddresses("/proc/net")
	if _, ok := got[netip.MustParseAddr("127.0.0.77")]; err != nil || !ok {
		t.Errorf("127.0.0.77 is not in %v, %v", got, err)
	}
}
