package status

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A Loop answers questions about its Services; *loop.Loop does.
type Loop interface {
	Names(context.Context) ([]plan.Name, error)
	Inspect(context.Context, plan.Name) (loop.Inspection, error)
	Owner(context.Context, plan.Address) (plan.Name, bool, error)
	Explain(ctx context.Context, to plan.Address, from netip.Addr) ([]loop.Verdict, error)
	Summary(ctx context.Context, quiet time.Duration) (loop.Summary, error)
	Digests(ctx context.Context, groups []int, quiet time.Duration) ([]loop.Group, error)
	Overview(context.Context) (loop.Overview, error)
}

// A Server answers requests. Its fields are required unless their comment makes them optional.
type Server struct {
	Loop       Loop
	Meter      loop.Meter
	Node       string        // this node's name
	DrainLimit time.Duration // how long an unlisted endpoint keeps its connections

	// Pods returns the names of a Service's pods by their addresses, as far as they are known at once. Nil: none are.
	Pods func(context.Context, plan.Name) map[netip.Addr]string

	// State returns the fields of Node that the program knows beside the loop. Nil: none are known.
	State func() Node

	// Begun reports whether Loop is set. Before, only nodes are answered. Nil: it is.
	Begun func() bool

	Now func() time.Time // nil: the clock

	census  shared[census]
	reading shared[Reading]
}

// answerLimit bounds the time of an answer.
const answerLimit = 30 * time.Second

// Register adds the handlers of the server's requests.
func (s *Server) Register(mux *http.ServeMux) {
	if s.Now == nil {
		s.Now = time.Now
	}
	s.census.age, s.census.make = censusAge, s.count
	s.reading.age, s.reading.make = readingAge, s.read
	handle(mux, s, "services", "ServiceList", perService(s, view.service))
	handle(mux, s, "frontends", "FrontendList", unserved(perService(s, view.frontends)))
	handle(mux, s, "endpoints", "EndpointList", perService(s, view.endpoints))
	handle(mux, s, "drains", "DrainList", perService(s, view.drains))
	handle(mux, s, "traffic", "TrafficList", s.traffic)
	handle(mux, s, "rates", "RateList", s.rates)
	handle(mux, s, "explain", "ExplanationList", s.explain)
	handle(mux, s, "groups", "GroupList", s.groups)
	handle(mux, s, "nodes", "NodeList", s.node)
	handle(mux, s, "overview", "OverviewList", s.overview)
}

// handle serves one resource.
func handle[T any](mux *http.ServeMux, s *Server, resource, kind string, answer func(context.Context, Query) (List[T], error)) {
	mux.HandleFunc("GET /v1alpha1/"+resource, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerLimit)
		defer cancel()
		q, err := ParseQuery(r.URL.Query())
		if err != nil {
			err = badRequest{err}
		}
		if err == nil && resource != "nodes" { // which are answered without the loop, too
			err = s.waits()
		}
		var out List[T]
		if err == nil {
			out, err = answer(ctx, q)
		}
		if err != nil {
			code := statusOf(err)
			write(w, code, Status{TypeMeta: TypeMeta{Kind: "Status", APIVersion: APIVersion}, Message: err.Error(), Code: code})
			return
		}
		out.TypeMeta, out.Node, out.Time = TypeMeta{Kind: kind, APIVersion: APIVersion}, s.Node, s.Now().UTC()
		if out.Items == nil {
			out.Items = []T{}
		}
		write(w, http.StatusOK, out)
	})
}

// A badRequest is the asker's mistake.
type badRequest struct{ error }

func statusOf(err error) int {
	switch {
	case errors.As(err, new(badRequest)):
		return http.StatusBadRequest
	case errors.Is(err, loop.ErrUnknown):
		return http.StatusNotFound
	}
	return http.StatusServiceUnavailable
}

func write(w http.ResponseWriter, code int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer) // an asker that has gone is no news
}

// perService returns the items of each of the selected Services, a page of them.
func perService[T any](s *Server, items func(view) []T) func(context.Context, Query) (List[T], error) {
	return func(ctx context.Context, q Query) (out List[T], err error) {
		names, next, total, err := s.page(ctx, q)
		if err != nil {
			return out, err
		}
		out.Continue, out.Total = next, total
		_, single := q.name()
		loads, detailed := s.loadsOf(ctx), single || q.Limit <= MaxDetailed
		if q.Loads && detailed {
			out.Uncounted = s.Meter.Uncounted(ctx)
		}
		if q.Loads && !detailed {
			if loads, err = s.Meter.AllLoads(ctx); err != nil {
				return out, err
			}
		}
		for _, name := range names {
			v, err := s.view(ctx, name, single)
			if errors.Is(err, loop.ErrUnknown) && !single { // it was removed meanwhile
				continue
			}
			if err != nil {
				return out, err
			}
			if q.Loads {
				if err := v.readLoads(detailed && out.Uncounted == "", loads); err != nil {
					return out, err
				}
			}
			out.Items = append(out.Items, items(v)...)
		}
		if single {
			out.Total = len(out.Items)
			out.Items, out.Continue = cut(out.Items, q)
		}
		return out, nil
	}
}

// cut returns a page of the items of a single Service, of which there may be thousands, and the number at which the next one
// begins.
func cut[T any](items []T, q Query) (page []T, next string) {
	begun, _ := strconv.Atoi(q.Continue) // of an answer before, or 0
	first := min(max(begun, 0), len(items))
	first += min(q.Skip, len(items)-first)
	if items = items[first:]; len(items) <= q.Limit {
		return items, ""
	}
	return items[:q.Limit], strconv.Itoa(first + q.Limit)
}

// unserved leaves only frontends that are not served, if a query is about these.
func unserved(list func(context.Context, Query) (List[Frontend], error)) func(context.Context, Query) (List[Frontend], error) {
	return func(ctx context.Context, q Query) (List[Frontend], error) {
		out, err := list(ctx, q)
		if q.Only == Unserved {
			out.Items = slices.DeleteFunc(out.Items, func(f Frontend) bool { return f.State != NotServed })
		}
		return out, err
	}
}

// loadsOf returns a function that reads the loads of one frontend.
func (s *Server) loadsOf(ctx context.Context) func(*plan.Frontend) (map[netip.AddrPort]loop.Load, error) {
	return func(fe *plan.Frontend) (map[netip.AddrPort]loop.Load, error) { return s.Meter.Loads(ctx, fe) }
}

// page returns the Services of a page, where the next one begins, and the number of Services on all pages.
func (s *Server) page(ctx context.Context, q Query) (names []plan.Name, next string, total int, err error) {
	if name, single := q.name(); single {
		return []plan.Name{name}, "", 0, nil
	}
	all, err := s.names(ctx, q)
	if err != nil {
		return nil, "", 0, err
	}
	first := q.Skip
	if namespace, name, isNext := strings.Cut(q.Continue, "/"); isNext {
		last := plan.Name{Namespace: namespace, Name: name}
		at, found := slices.BinarySearchFunc(all, last, plan.Name.Compare)
		if first += at; found {
			first++
		}
	}
	names = all[min(first, len(all)):]
	if len(names) <= q.Limit {
		return names, "", len(all), nil
	}
	return names[:q.Limit], names[q.Limit-1].String(), len(all), nil
}
