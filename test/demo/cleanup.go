package main

import "context"

// strangers returns what others did on the node before kube-ipvs came: a virtual server, a set and a rule.
func strangers() []string {
	return []string{
		"ipvsadm -A -t 192.168.77.11:9999 -s rr",
		"ipvsadm -a -t 192.168.77.11:9999 -r 10.244.1.11:8080 -m",
		"ipset create OTHERS hash:ip",
		"iptables -A FORWARD -m set --match-set OTHERS src -j DROP",
	}
}

// cleanup returns the last case.
func cleanup() scene {
	return scene{
		title: "The cleanup",
		words: `kube-ipvs --cleanup removes all that is kube-ipvs's, and nothing else: a virtual server, a set and a rule that
			somebody else made before it came have stood through all cases, and stay.`,
		do: &act{"kill -TERM kube-ipvs; kube-ipvs --cleanup", func(ctx context.Context, s *stage) error {
			if err := s.program.Stop(); err != nil {
				return err
			}
			return s.program.Clean(ctx)
		}},
		table: []server{{"TCP 192.168.77.11:9999", "rr", []string{"echo-1"}}},
		asks:  []ask{{from: client, times: 2, to: "192.168.77.11:9999", want: each(client, "echo-1")}},
		checks: []check{
			{"ipvsadm -Ln | grep -c -E '^(TCP|UDP|FWM)'", "1"},
			{"iptables-save | grep -c KIPVS; ip6tables-save | grep -c KIPVS", "0 0"},
			{"iptables-save | grep -c OTHERS", "1"},
			{"ipset list -n", "OTHERS"},
			{"ip rule | wc -l; ip -6 rule | wc -l", "3 2"},
			{"ip link | grep -c kube-ipvs0", "0"},
			{"ip route | grep -c 10.96", "0"},
		},
	}
}
