package node

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAdvertised(t *testing.T) {
	const zero = "00000000000000000000000000000000"
	route := func(flags, link string) string {
		return zero + " 00 " + zero + " 00 fe800000000000000000000000000001 00000400 00000001 00000000 " + flags + " " + link + "\n"
	}
	for _, tt := range []struct {
		name, in string
		want     []string
		wrong    bool
	}{
		{"none", "", nil, false},
		{"made by hand", route("00000003", "eth0"), nil, false},
		{"from a router", route("00450003", "eth0"), []string{"eth0"}, false},
		{"of two routers on a link, one on another", route("00450003", "eth0") + route("00450003", "eth0") + route("00450003", "eth1"), []string{"eth0", "eth1"}, false},
		{"a prefix that a router advertised", route("00440001", "eth0"), nil, false},
		{"not such a file", "a b c\n", nil, true},
	} {
		got, err := advertised(strings.NewReader(tt.in))
		if diff := cmp.Diff(tt.want, got); diff != "" || (err != nil) != tt.wrong {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
	if _, err := AdvertisedDefault(); err != nil { // of the machine that runs the test
		t.Error(err)
	}
}
