package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
)

// connectionFacts are the connections whose answers IPVS gives to others. It tells answers apart by the client's address and port and
// by the endpoint's (ip_vs_conn_out_get in net/netfilter/ipvs/ip_vs_conn.c), not by the virtual server: of two connections from one
// port to two virtual servers of one endpoint, the younger gets the answers to both.
type connectionFacts struct {
	absent bool // IPVS is not loaded
	read   int
	isPart bool // there are more
	mute   int  // live ones that get no answers
	one    ipvs.Connection
	other  netip.AddrPort // the virtual server of the one that gets its answers
}

// mostConnections bounds the connections that are read, and the memory for them. Those of one client's port are beside each other, since
// the kernel's table is hashed by it: a part of them tells as much.
const mostConnections = 1 << 16

func lookConnections(_ context.Context, n *Node, _ Wanted) (connectionFacts, error) {
	file, err := os.Open(filepath.Join(n.Proc, "thread-self/net/ip_vs_conn"))
	if errors.Is(err, fs.ErrNotExist) {
		return connectionFacts{absent: true}, nil
	}
	if err != nil {
		return connectionFacts{}, err
	}
	defer file.Close()
	return mixedUp(file, mostConnections)
}

// answers is what the kernel finds a connection by when an answer comes.
type answers struct {
	proto        inet.Protocol
	client, real netip.AddrPort
}

// mixedUp finds the connections whose answers go to others among so many of a listing: of several with the same answers, the kernel
// finds that first which it lists first. It lists a connection twice if others begin between two reads, since it goes on by position.
func mixedUp(listing io.Reader, most int) (f connectionFacts, err error) {
	servers := map[answers][]netip.AddrPort{} // the virtual servers of connections with the same answers
	for c, err := range ipvs.Connections(listing) {
		if err != nil {
			return f, err
		}
		its := answers{c.Proto, c.Client, c.Real}
		listed := servers[its]
		if slices.Contains(listed, c.Server) {
			continue
		}
		if f.read == most {
			f.isPart = true
			break
		}
		f.read++
		servers[its] = append(listed, c.Server)
		if len(listed) > 0 && isLive(c) {
			f.mute++
			f.one, f.other = c, listed[0]
		}
	}
	return f, nil
}

// isLive reports whether a client may still wait for answers.
func isLive(c ipvs.Connection) bool {
	return c.State == "ESTABLISHED" || c.Proto == inet.UDP
}

func judgeConnections(f connectionFacts, _ Wanted) []Finding {
	if f.absent {
		return []Finding{{Severity: Note, Found: "IPVS is not loaded yet"}}
	}
	if f.read == 0 {
		return []Finding{{Severity: OK, Found: "IPVS has none"}}
	}
	all := fmt.Sprintf("%d connections of IPVS", f.read)
	if f.isPart {
		all = fmt.Sprintf("the first %d connections of IPVS", f.read)
	}
	if f.mute == 0 {
		return []Finding{{Severity: OK, Found: all + ": each gets its own answers"}}
	}
	return []Finding{{Severity: Warning,
		Found: fmt.Sprintf("%s: %d get no answers, because the client has a younger one from the same port to the same endpoint, by another address: %v %v to %v, beside %v, both at %v",
			all, f.mute, f.one.Proto, f.one.Client, f.one.Server, f.other, f.one.Real),
		Do: "let clients use one address for these pods: IPVS cannot tell such connections' answers apart (README, Limits)"}}
}
