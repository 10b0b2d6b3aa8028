package status

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"slices"
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
}

// answerLimit bounds the time of an answer.
const answerLimit = 30 * time.Second

// Register adds the handlers of the server's requests.
func (s *Server) Register(mux *http.ServeMux) {
	if s.Now == nil {
		s.Now = time.Now
	}
	handle(mux, s, "services", "ServiceList", perService(s, view.service))
	handle(mux, s, "frontends", "FrontendList", perService(s, view.frontends))
	handle(mux, s, "endpoints", "EndpointList", perService(s, view.endpoints))
	handle(mux, s, "drains", "DrainList", perService(s, view.drains))
	handle(mux, s, "traffic", "TrafficList", s.traffic)
	handle(mux, s, "explain", "ExplanationList", s.explain)
	handle(mux, s, "groups", "GroupList", s.groups)
	handle(mux, s, "nodes", "NodeList", s.node)
}

// handle serves one resource.
func handle[T any](mux *http.ServeMux, s *Server, resource, kind string, items func(context.Context, Query) ([]T, string, error)) {
	mux.HandleFunc("GET /v1alpha1/"+resource, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerLimit)
		defer cancel()
		q, err := ParseQuery(r.URL.Query())
		if err != nil {
			err = badRequest{err}
		}
		out := List[T]{TypeMeta: TypeMeta{Kind: kind, APIVersion: APIVersion}, Node: s.Node}
		if err == nil && resource != "nodes" { // which are answered without the loop, too
			err = s.waits()
		}
		if err == nil {
			out.Items, out.Continue, err = items(ctx, q)
		}
		if err != nil {
			code := statusOf(err)
			write(w, code, Status{TypeMeta: TypeMeta{Kind: "Status", APIVersion: APIVersion}, Message: err.Error(), Code: code})
			return
		}
		out.Time = s.Now().UTC()
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
func perService[T any](s *Server, items func(view) []T) func(context.Context, Query) ([]T, string, error) {
	return func(ctx context.Context, q Query) ([]T, string, error) {
		names, next, err := s.names(ctx, q)
		if err != nil {
			return nil, "", err
		}
		_, single := q.name()
		loads := s.loadsOf(ctx)
		if q.Loads && !single {
			all, err := s.Meter.AllLoads(ctx)
			if err != nil {
				return nil, "", err
			}
			loads = func(fe *plan.Frontend) (map[netip.AddrPort]loop.Load, error) { return all(fe), nil }
		}
		var out []T
		for _, name := range names {
			v, err := s.view(ctx, name, single)
			if errors.Is(err, loop.ErrUnknown) && !single { // it was removed meanwhile
				continue
			}
			if err != nil {
				return nil, "", err
			}
			if q.Loads {
				if err := v.readLoads(single, loads); err != nil {
					return nil, "", err
				}
			}
			out = append(out, items(v)...)
		}
		return out, next, nil
	}
}

// loadsOf returns a function that reads the loads of one frontend.
func (s *Server) loadsOf(ctx context.Context) func(*plan.Frontend) (map[netip.AddrPort]loop.Load, error) {
	return func(fe *plan.Frontend) (map[netip.AddrPort]loop.Load, error) { return s.Meter.Loads(ctx, fe) }
}

// names returns the Services of a page, and where the next one begins.
func (s *Server) names(ctx context.Context, q Query) ([]plan.Name, string, error) {
	if name, single := q.name(); single {
		return []plan.Name{name}, "", nil
	}
	all, err := s.Loop.Names(ctx)
	if err != nil {
		return nil, "", err
	}
	namespace, name, isNext := strings.Cut(q.Continue, "/")
	last := plan.Name{Namespace: namespace, Name: name}
	names := slices.DeleteFunc(all, func(n plan.Name) bool {
		return q.Namespace != "" && n.Namespace != q.Namespace || isNext && n.Compare(last) <= 0
	})
	if len(names) <= q.Limit {
		return names, "", nil
	}
	return names[:q.Limit], names[q.Limit-1].String(), nil
}
