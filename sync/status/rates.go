package status

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

// A Rate is the traffic of an item, and how much of it there was in a second.
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

// RatesOf returns the rates between two answers, the busiest first. An item that is new counts from its beginning. Where one
// of the answers is without counts, so are the rates: what comes with the first counts came earlier.
func RatesOf(before, now List[Traffic]) []Rate {
	type key struct{ namespace, service, frontend, endpoint string }
	keyOf := func(t Traffic) key { return key{t.Namespace, t.Service, t.Frontend, t.Endpoint} }
	old := map[key]Counters{}
	for _, t := range before.Items {
		old[keyOf(t)] = *t.Counters
	}
	counted := before.Uncounted == "" && now.Uncounted == ""
	seconds := max(now.Time.Sub(before.Time), time.Millisecond).Seconds()
	out := []Rate{}
	for _, t := range now.Items {
		if !counted {
			out = append(out, Rate{Traffic: t})
			continue
		}
		was := old[keyOf(t)]
		per := func(now, was uint64) float64 {
			if now < was { // removed and added again
				was = 0
			}
			return float64(now-was) / seconds
		}
		out = append(out, Rate{t, &PerSecond{
			per(t.Counters.Connections, was.Connections), per(t.Counters.InPackets, was.InPackets), per(t.Counters.OutPackets, was.OutPackets),
			per(t.Counters.InBytes, was.InBytes), per(t.Counters.OutBytes, was.OutBytes),
		}})
	}
	slices.SortStableFunc(out, func(a, b Rate) int {
		if !counted {
			return cmp.Compare(b.Active, a.Active)
		}
		return cmp.Or(cmp.Compare(b.InBytes+b.OutBytes, a.InBytes+a.OutBytes), cmp.Compare(b.Connections, a.Connections), cmp.Compare(b.Active, a.Active))
	})
	return out
}

// A reading is the traffic of all Services at a time, with the rates since the reading before.
type reading struct {
	traffic List[Traffic]
	rates   []Rate // nil: there was none before
}

// readingAge is the least age of a reading that is made again: the kernel brings its counts up to date every two seconds.
const readingAge = 4 * time.Second

// read reads the traffic of all Services.
func (s *Server) read(ctx context.Context, before *reading) (reading, error) {
	now := reading{traffic: List[Traffic]{Time: s.Now(), Uncounted: s.Meter.Uncounted(ctx)}}
	items, err := s.totals(ctx)
	now.traffic.Items = items
	switch {
	case err != nil:
	case before != nil:
		now.rates = RatesOf(before.traffic, now.traffic)
	case now.traffic.Uncounted != "": // which there is nothing to compare for
		now.rates = RatesOf(now.traffic, now.traffic)
	}
	return now, err
}

// rates returns the rates of Services between the last two readings, the busiest first. There are none at the first request.
func (s *Server) rates(ctx context.Context, q Query) (List[Rate], error) {
	r, err := s.reading.get(ctx)
	if err != nil {
		return List[Rate]{}, err
	}
	var out []Rate
	for _, rate := range r.rates {
		name := rate.Name
		if (q.Namespace == "" || name.Namespace == q.Namespace) && (q.Service == "" || name.Service == q.Service) &&
			strings.Contains(name.Namespace+"/"+name.Service, strings.ToLower(q.Search)) {
			out = append(out, rate)
		}
	}
	return List[Rate]{Uncounted: r.traffic.Uncounted, Items: out[min(q.Skip, len(out)):min(q.Skip+q.Limit, len(out))], Total: len(out)}, nil
}
