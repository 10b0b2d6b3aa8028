package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestComplain(t *testing.T) {
	two := ask{from: "asker", want: each("asker", "echo-1", "echo-2")}
	sticky := ask{from: "client", want: one("node1", "echo-1", "echo-2")}
	itself := ask{from: "echo-1", want: each("echo-1", "echo-1", "echo-2")}
	dropped := ask{from: "client", want: want{fate: silence}}
	from := func(who, source string) answer { return answer{fate: answered, who: who, source: source} }
	for _, tc := range []struct {
		name    string
		ask     ask
		answers []answer
		want    string
	}{
		{"each answers", two, []answer{from("echo-1", "asker"), from("echo-2", "asker")}, ""},
		{"one never answers", two, []answer{from("echo-1", "asker")}, "echo-2 never answered"},
		{"nobody was asked", two, nil, "echo-1 never answered"},
		{"another answers", two, []answer{from("echo-3", "asker")}, "echo-3 must not answer"},
		{"masqueraded by mistake", two, []answer{from("echo-1", "node1")}, "echo-1 saw node1, but must see asker"},
		{"refused by mistake", two, []answer{{fate: refused}}, "refused, but must be answered"},
		{"always the same", sticky, []answer{from("echo-2", "node1"), from("echo-2", "node1")}, ""},
		{"not the same", sticky, []answer{from("echo-1", "node1"), from("echo-2", "node1")}, "more than one pod answered"},
		{"itself, masqueraded", itself, []answer{from("echo-1", "node1"), from("echo-2", "echo-1")}, ""},
		{"itself, not masqueraded", itself, []answer{from("echo-1", "echo-1")}, "echo-1 saw echo-1, but must see node1"},
		{"dropped", dropped, []answer{{fate: silence}}, ""},
		{"refused instead of dropped", dropped, []answer{{fate: refused}}, "refused, but must be silence"},
		{"answered instead of dropped", dropped, []answer{from("echo-1", "client")}, "echo-1 answered, but must be silence"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.ask.complain(tc.answers)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
