package status

import (
	"context"

	"kube-ipvs/sync/loop"
)

// overview returns the node as a whole.
func (s *Server) overview(ctx context.Context, _ Query) (out List[Overview], err error) {
	all, err := s.census.get(ctx)
	if err != nil {
		return out, err
	}
	o, err := s.Loop.Overview(ctx)
	if err != nil {
		return out, err
	}
	n, err := s.sum(ctx, 0)
	if err != nil {
		return out, err
	}
	x := Overview{
		Node: n, Numbers: all.numbers, Waiting: o.Waiting, Recent: syncsOf(o.Recent), Notable: syncsOf(o.Notable),
		DrainLimit: s.DrainLimit.String(), Layers: []Layer{}, External: []ExternalChange{},
	}
	for _, l := range o.Layers {
		x.Layers = append(x.Layers, Layer{Name: l.Name, Present: l.Known, Pending: l.Pending, Failing: l.Failing, Error: textOf(l.Err)})
	}
	for _, c := range o.Changes {
		x.External = append(x.External, ExternalChange(c))
	}
	out.Items = []Overview{x}
	return out, nil
}

func syncsOf(syncs []loop.Sync) []Sync {
	out := make([]Sync, 0, len(syncs))
	for _, x := range syncs {
		out = append(out, Sync{
			Began: x.Began.UTC(), Seconds: x.Took.Seconds(), Services: x.Services, Error: textOf(x.Err), Repaired: x.Repaired, Times: x.Times,
		})
	}
	return out
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
