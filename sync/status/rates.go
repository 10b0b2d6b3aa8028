package status

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"kube-ipvs/sync/loop"
)

// A Rate is the traffic of a Service or endpoint, and how much of it there was in a second.
type Rate struct {
	Traffic
	*PerSecond // nil: it is not counted
}

// PerSecond is the traffic of a second.
type PerSecond struct {
	Connections float64 `json:"connectionsPerSecond"`
	InPackets   float64 `json:"inPacketsPerSecond"`
	OutPackets  float64 `json:"outPacketsPerSecond"`
	InBytes     float64 `json:"inBytesPerSecond"`
	OutBytes    float64 `json:"outBytesPerSecond"`
}

// A Reading is traffic at a time, with the rates since the reading before.
type Reading struct {
	Traffic   List[Traffic]
	Rates     []Rate // the busiest first; nil: there was no reading before
	Uncounted string // why Rates have no PerSecond

	lacking string    // why Traffic may lack what IPVS has counted
	again   time.Time // of the first reading after IPVS had not counted
}

// readingAge is the least age of a reading that is made again: the kernel brings its counts up to date every two seconds. At that age of
// the first reading after IPVS had not counted, counts have all that came meanwhile, as one increase, which is no rate.
const readingAge = 4 * time.Second

// Next returns the reading for an answer, which follows a reading; nil: none.
func Next(before *Reading, now List[Traffic]) Reading {
	r := Reading{Traffic: now, lacking: now.Uncounted}
	if before == nil {
		if r.Uncounted = now.Uncounted; r.Uncounted != "" { // there is nothing to compare
			r.Rates = ratesOf(now, now, false)
		}
		return r
	}
	if now.Uncounted == "" && before.lacking != "" {
		r.again = before.again
		if r.again.IsZero() {
			r.again = now.Time
		}
		if now.Time.Sub(r.again) < readingAge {
			r.lacking = before.lacking
		}
	}
	r.Uncounted = cmp.Or(r.lacking, before.lacking)
	r.Rates = ratesOf(before.Traffic, now, r.Uncounted == "")
	return r
}

// ratesOf returns the rates between two answers, the busiest first: of endpoints, or of Services, as sums over their frontends. Each
// frontend is compared with itself: the sum of a Service that loses one is smaller, and did not begin anew. One that is new counts from
// its beginning.
func ratesOf(before, now List[Traffic], counted bool) []Rate {
	type key struct{ namespace, service, frontend, endpoint string }
	keyOf := func(t Traffic) key { return key{t.Namespace, t.Service, t.Frontend, t.Endpoint} }
	old := map[key]loop.Counters{}
	for _, t := range before.Items {
		old[keyOf(t)] = loop.Counters(*t.Counters)
	}
	seconds := max(now.Time.Sub(before.Time), time.Millisecond).Seconds()
	sums := map[key]sum{}
	for _, t := range now.Items {
		counters := loop.Counters(*t.Counters)
		part := sum{t, counters, counters.Since(old[keyOf(t)])}
		if t.Endpoint == "" {
			part.Frontend = ""
		}
		sums[keyOf(part.Traffic)] = sums[keyOf(part.Traffic)].add(part)
	}
	out := []Rate{}
	for _, s := range sums {
		out = append(out, s.rate(counted, seconds))
	}
	slices.SortFunc(out, func(a, b Rate) int {
		busier := 0
		if counted {
			busier = cmp.Or(cmp.Compare(b.InBytes+b.OutBytes, a.InBytes+a.OutBytes), cmp.Compare(b.Connections, a.Connections))
		}
		return cmp.Or(busier, cmp.Compare(b.Active, a.Active), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service),
			cmp.Compare(a.Frontend, b.Frontend), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return out
}

// A sum is the traffic of a Service or endpoint.
type sum struct {
	Traffic  // its Counters are those of a part
	counters loop.Counters
	increase loop.Counters
}

// add adds a part.
func (s sum) add(part sum) sum {
	part.Active, part.Inactive = part.Active+s.Active, part.Inactive+s.Inactive
	part.counters, part.increase = part.counters.Add(s.counters), part.increase.Add(s.increase)
	return part
}

// rate returns the rate of the item, if it is counted.
func (s sum) rate(counted bool, seconds float64) Rate {
	out, counters := Rate{Traffic: s.Traffic}, Counters(s.counters)
	out.Counters = &counters
	if counted {
		per, i := func(n uint64) float64 { return float64(n) / seconds }, s.increase
		out.PerSecond = &PerSecond{per(i.Connections), per(i.InPackets), per(i.OutPackets), per(i.InBytes), per(i.OutBytes)}
	}
	return out
}

// read reads the traffic of all Services.
func (s *Server) read(ctx context.Context, before *Reading) (Reading, error) {
	now := List[Traffic]{Time: s.Now(), Uncounted: s.Meter.Uncounted(ctx)}
	var err error
	if now.Items, err = s.totals(ctx); err != nil {
		return Reading{}, err
	}
	return Next(before, now), nil
}

// rates returns the rates of Services between the last two readings, the busiest first. There are none at the first request.
func (s *Server) rates(ctx context.Context, q Query) (List[Rate], error) {
	r, err := s.reading.get(ctx)
	if err != nil {
		return List[Rate]{}, err
	}
	var out []Rate
	for _, rate := range r.Rates {
		name := rate.Name
		if (q.Namespace == "" || name.Namespace == q.Namespace) && (q.Service == "" || name.Service == q.Service) &&
			strings.Contains(name.Namespace+"/"+name.Service, strings.ToLower(q.Search)) {
			out = append(out, rate)
		}
	}
	return List[Rate]{Uncounted: r.Uncounted, Items: out[min(q.Skip, len(out)):min(q.Skip+q.Limit, len(out))], Total: len(out)}, nil
}
