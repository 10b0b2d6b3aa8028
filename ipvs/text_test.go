package ipvs

import (
	"testing"

	"kube-ipvs/internal/inet"

	"github.com/google/go-cmp/cmp"
)

func TestOpString(t *testing.T) {
	sctp := web
	sctp.Proto = inet.SCTP
	tests := []struct {
		op   Op
		want string
	}{
		{Op{Verb: AddServer, Key: web, Server: Server{Scheduler: "rr", Timeout: 60}}, "ipvsadm -A -t 10.96.0.10:80 -s rr -p 60"},
		{Op{Verb: SetServer, Key: dns, Server: Server{Scheduler: "mh", Flags: Flag2}}, "ipvsadm -E -u [fd00::a]:53 -s mh -b flag-2"},
		{Op{Verb: DelServer, Key: sctp}, "ipvsadm -D --sctp-service 10.96.0.10:80"},
		{Op{Verb: AddReal, Key: inside, Addr: pod4, Real: Real{Weight: 1}}, "ipvsadm -a -f 5 -r 10.244.1.2:8080 -m -w 1"},
		{Op{Verb: SetReal, Key: idle6, Addr: pod6}, "ipvsadm -e -f 5 -6 -r [fd00:1::2]:53 -m -w 0"},
		{Op{Verb: DelReal, Key: web, Addr: pod4}, "ipvsadm -d -t 10.96.0.10:80 -r 10.244.1.2:8080"},
		{Op{Verb: 99, Key: web}, "verb(99) -t 10.96.0.10:80"},
	}
	for _, tt := range tests {
		if got := tt.op.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestTableString(t *testing.T) {
	var f Fake
	mustDo(t, &f, everyKind...)
	if err := f.SetConnections(RealKeyOf(web, pod4), 4, 7); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everyKindText, f.Table().String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := Table(nil).String(); got != "" {
		t.Errorf("of no table: %q", got)
	}
}
