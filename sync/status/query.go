package status

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
)

// A Query selects the items of an answer.
type Query struct {
	Namespace string     // empty: all; with Service: "default"
	Service   string     // empty: all
	To        string     // for explain: ADDRESS:PORT[/PROTO], instead of a Service
	From      netip.Addr // for explain: the source, or the zero Addr
	Loads     bool       // read connections from the kernel
	Limit     int        // Services in an answer at most, or items of a single one; 0: MaxLimit
	Continue  string     // of the answer before
	Skip      int        // of these, how many to leave out, for pages by number; Continue misses none where Services come and go
	Search    string     // a part of NAMESPACE/NAME, or an address of a frontend or endpoint; empty: all
	Only      Filter     // empty: all

	Groups  []int         // for groups: their numbers
	Settled time.Duration // for nodes and groups: how long groups have been as they are
}

const (
	// MaxLimit bounds the Services of one answer.
	MaxLimit = 1000
	// MaxDetailed is the greatest limit with which an answer has the counters of all its Services.
	MaxDetailed = 100
	// maxSearch bounds the length of a search; names are shorter.
	maxSearch = 320
)

// Values returns the query as parameters of a URL.
func (q Query) Values() url.Values {
	out := url.Values{}
	set := func(name, value string) {
		if value != "" {
			out.Set(name, value)
		}
	}
	set("namespace", q.Namespace)
	set("service", q.Service)
	set("to", q.To)
	if q.From.IsValid() {
		set("from", q.From.String())
	}
	if q.Loads {
		set("loads", "true")
	}
	if q.Limit != 0 {
		set("limit", strconv.Itoa(q.Limit))
	}
	set("continue", q.Continue)
	if q.Skip != 0 {
		set("skip", strconv.Itoa(q.Skip))
	}
	set("search", q.Search)
	set("only", string(q.Only))
	var groups []string
	for _, g := range q.Groups {
		groups = append(groups, strconv.Itoa(g))
	}
	set("groups", strings.Join(groups, ","))
	if q.Settled > 0 {
		set("settled", q.Settled.String())
	}
	return out
}

// ParseQuery is the inverse of Values. Its error names the parameter.
func ParseQuery(in url.Values) (Query, error) {
	q := Query{
		Namespace: in.Get("namespace"), Service: in.Get("service"), To: in.Get("to"), Limit: MaxLimit, Continue: in.Get("continue"),
		Search: strings.TrimSpace(in.Get("search")), Only: Filter(in.Get("only")),
	}
	if len(q.Search) > maxSearch {
		return q, fmt.Errorf("search: longer than %d characters", maxSearch)
	}
	if q.Only != "" && !slices.Contains(filters, q.Only) {
		return q, fmt.Errorf("only: %q is none of %v", q.Only, filters)
	}
	if text := in.Get("from"); text != "" {
		from, err := netip.ParseAddr(text)
		if err != nil || from.Zone() != "" {
			return q, fmt.Errorf("from: %q is not an IP address", text)
		}
		q.From = from.Unmap()
	}
	if text := in.Get("loads"); text != "" {
		loads, err := strconv.ParseBool(text)
		if err != nil {
			return q, fmt.Errorf("loads: %q is neither true nor false", text)
		}
		q.Loads = loads
	}
	if text := in.Get("limit"); text != "" {
		limit, err := strconv.Atoi(text)
		if err != nil || limit < 1 {
			return q, fmt.Errorf("limit: %q is not a positive number", text)
		}
		q.Limit = min(limit, MaxLimit)
	}
	if text := in.Get("skip"); text != "" {
		skip, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return q, fmt.Errorf("skip: %q is not a number", text)
		}
		q.Skip = int(skip)
	}
	if text := in.Get("groups"); text != "" {
		for number := range strings.SplitSeq(text, ",") {
			group, err := strconv.Atoi(number)
			if err != nil || group < 0 {
				return q, fmt.Errorf("groups: %q is no number of a group", number)
			}
			q.Groups = append(q.Groups, group)
		}
	}
	if text := in.Get("settled"); text != "" {
		settled, err := time.ParseDuration(text)
		if err != nil || settled <= 0 {
			return q, fmt.Errorf("settled: %q is no duration", text)
		}
		q.Settled = settled
	}
	return q, nil
}

// name returns the name of the single Service that the query is about, if it is.
func (q Query) name() (plan.Name, bool) {
	return plan.Name{Namespace: cmp.Or(q.Namespace, "default"), Name: q.Service}, q.Service != ""
}

// ParseAddress parses ADDRESS:PORT[/PROTO]; without a protocol it is TCP.
func ParseAddress(s string) (plan.Address, error) {
	text, proto, hasProto := strings.Cut(s, "/")
	at, err := netip.ParseAddrPort(text)
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
		return plan.Address{}, fmt.Errorf("%q is not ADDRESS:PORT[/PROTO], such as 10.96.0.10:53/udp or [fd00::a]:443", s)
	}
	out := plan.Address{Addr: at.Addr().Unmap(), Port: at.Port(), Protocol: inet.TCP}
	if !hasProto {
		return out, nil
	}
	for _, p := range []inet.Protocol{inet.TCP, inet.UDP, inet.SCTP} {
		if strings.EqualFold(proto, p.String()) {
			out.Protocol = p
			return out, nil
		}
	}
	return plan.Address{}, fmt.Errorf("%q is not a protocol of Services: tcp, udp or sctp", proto)
}
