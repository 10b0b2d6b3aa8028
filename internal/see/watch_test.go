package see

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each list is printed by what it differs in from the one before.
func TestWatched(t *testing.T) {
	lists := func(text string) (out []line) {
		for _, item := range strings.Fields(text) {
			key, state, _ := strings.Cut(item, "=")
			out = append(out, line{key, item, []string{key, state}})
		}
		return out
	}
	var w watched
	for _, tt := range []struct{ list, want string }{
		{"b=1 a=1", "ADDED b 1, ADDED a 1"},
		{"b=1 a=1", ""},
		{"a=1 b=1", ""},
		{"b=2 a=1 c=1", "MODIFIED b 2, ADDED c 1"},
		{"c=1", "DELETED a 1, DELETED b 2"},
		{"c=2 a=1", "MODIFIED c 2, ADDED a 1"},
		{"", "DELETED a 1, DELETED c 2"},
		{"", ""},
	} {
		var rows [][]string
		rows, w = w.next(lists(tt.list))
		var got []string
		for _, row := range rows {
			got = append(got, strings.Join(row, " "))
		}
		if diff := cmp.Diff(tt.want, strings.Join(got, ", ")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.list, diff)
		}
		if len(w) != len(strings.Fields(tt.list)) {
			t.Errorf("%q: %s are kept", tt.list, fmt.Sprint(w))
		}
	}
}
