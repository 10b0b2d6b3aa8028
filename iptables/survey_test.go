package iptables

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"kube-ipvs/internal/inet"
)

// A survey has the rules of both backends, of one that the node has by its plain name only, too, and writes nothing.
func TestSurvey(t *testing.T) {
	for _, tt := range []struct {
		name    string
		missing string // commands that the node lacks, by their beginning
		want    []string
	}{
		{"both", "none", []string{"nft IPv4 iptables-save", "nft IPv6 ip6tables-save", "legacy IPv4 iptables-legacy-save", "legacy IPv6 ip6tables-legacy-save"}},
		{"a plain name", "iptables-nft", []string{"nft IPv4 iptables-save", "nft IPv6 ip6tables-save", "legacy IPv4 iptables-legacy-save", "legacy IPv6 ip6tables-legacy-save"}},
		{"none", "ip", []string{"nft IPv4 not found", "nft IPv6 not found", "legacy IPv4 not found", "legacy IPv6 not found"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := look(t.Context(), func(_ context.Context, stdin, name string, arg ...string) (string, error) {
				switch {
				case stdin != "":
					t.Errorf("%s writes", name)
				case strings.HasPrefix(name, tt.missing):
					return "", errors.New("not found")
				case slices.Equal(arg, []string{"--version"}):
					return "iptables v1.8.9 (nf_tables)", nil
				}
				return name, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, saved := range s.Saved {
				text := saved.Text
				if saved.Err != nil {
					text = saved.Err.Error()
				}
				got = append(got, saved.Backend+" "+saved.Family.String()+" "+text)
			}
			if !slices.Equal(got, tt.want) || (s.Used == "nft") != (s.Broken == nil) {
				t.Errorf("%+v\ngot %q\nwant %q", s, got, tt.want)
			}
		})
	}
}

func TestUnreadable(t *testing.T) {
	s := Saved{Family: inet.IPv4, Text: "*nat\nCOMMIT\n# Table `mangle' is incompatible, use 'nft' tool.\n# Table `theirs' is incompatible, use 'nft' tool.\n"}
	if got := s.Unreadable(); !slices.Equal(got, []string{"mangle"}) {
		t.Errorf("%q", got)
	}
}
