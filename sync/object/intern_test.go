package object

import (
	"strings"
	"testing"
	"unsafe"
)

func TestPoolsShareStrings(t *testing.T) {
	var p, q pool
	first := p.intern(strings.Clone("node-1"))
	for range 3 {
		if got := p.intern(strings.Clone("node-1")); unsafe.StringData(got) != unsafe.StringData(first) {
			t.Error("a pool holds a string twice")
		}
	}
	if got := q.intern(strings.Clone("node-1")); unsafe.StringData(got) != unsafe.StringData(first) {
		t.Error("two pools do not share a string")
	}
	if p.intern(""); len(p.handles.list) != 1 {
		t.Errorf("%d handles for one string", len(p.handles.list))
	}
}
