//go:build kernel

package packet

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// An explainer is a subject that predicts the fate of packets, as "kube-ipvs explain" prints it.
type explainer interface {
	explain(to plan.Address, from netip.Addr) ([]loop.Verdict, error)
}

func (p *proxy) explain(to plan.Address, from netip.Addr) ([]loop.Verdict, error) {
	return p.loop.Explain(context.Background(), to, from)
}

// A prediction is the verdict about a cell, held against each of its packets.
type prediction struct {
	verdict  loop.Verdict
	who      []string // the pods of its endpoints
	answered map[string]bool
	wrong    string // the first difference, or ""
}

// predictions counts the cells that were predicted, and has the wrong ones: not more than a few.
type predictions struct {
	asked, agreed int
	wrong         []string
}

// String tells how many cells were asked and agreed.
func (p predictions) String() string {
	return fmt.Sprintf("%d cells asked, %d agreed", p.asked, p.agreed)
}

// predict asks a subject that explains.
func (tt *truthTable) predict(c cell) (prediction, bool) {
	x, ok := tt.p.(explainer)
	if !ok {
		return prediction{}, false
	}
	p := prediction{answered: map[string]bool{}}
	from := tt.w.host(c.from).Addr(c.at.Addr().Is6())
	verdicts, err := x.explain(plan.Address{Addr: c.at.Addr(), Port: c.at.Port(), Protocol: c.proto}, from)
	if len(verdicts) == 2 && verdicts[0].Origin == loop.FromPod && verdicts[1].Origin == loop.FromOutside { // told apart by interface
		i := 1
		if c.rule.inside[c.from] {
			i = 0
		}
		verdicts = verdicts[i : i+1]
	}
	if err != nil || len(verdicts) != 1 {
		p.wrong = fmt.Sprintf("%d verdicts, error %v", len(verdicts), err)
		return p, true
	}
	p.verdict = verdicts[0]
	for _, at := range p.verdict.Endpoints {
		p.who = append(p.who, tt.w.podAt(at.Addr()))
	}
	return p, true
}

// podAt returns the pod with an address.
func (w *world) podAt(a netip.Addr) string {
	i := slices.IndexFunc(serving, func(pod string) bool { return w.Pod(pod).Addr(a.Is6()) == a })
	if i < 0 {
		return a.String()
	}
	return serving[i]
}

// fates are what comes of a request with each outcome.
var fates = map[loop.Outcome]string{loop.Delivered: "answered", loop.Refused: "refused", loop.Dropped: "silence"}

// explained holds predictions against the fates of questions, and returns how many there were.
func (w *world) explained(t *testing.T, x explainer, want map[question]string) int {
	t.Helper()
	for q, fate := range want {
		verdicts, err := x.explain(plan.Address{Addr: q.at.Addr(), Port: q.at.Port(), Protocol: q.proto}, w.host(q.from).Addr(q.at.Addr().Is6()))
		if err != nil || len(verdicts) != 1 || fates[verdicts[0].Outcome] != fate {
			t.Errorf("%v is explained by %+v (%v), want %s", q, verdicts, err, fate)
		}
	}
	return len(want)
}

// hold holds the prediction against an answer.
func (p *prediction) hold(tt *truthTable, c cell, a lab.Answer) {
	if p.answered == nil || p.wrong != "" {
		return
	}
	if got := fate(a); got != fates[p.verdict.Outcome] {
		p.wrong = fmt.Sprintf("it was %s", strings.TrimSpace(got+" "+a.Who))
		return
	}
	if a.Err != nil {
		return
	}
	p.answered[a.Who] = true
	own := tt.w.host(c.from).Addr(c.at.Addr().Is6())
	masqueraded := p.verdict.Masqueraded || p.verdict.Hairpin && tt.w.podAt(own) == a.Who
	switch source := a.Source.Addr(); {
	case !slices.Contains(p.who, a.Who):
		p.wrong = a.Who + " answered"
	case masqueraded && !slices.Contains(tt.own, source), !masqueraded && c.from != fromNode && source != own:
		p.wrong = fmt.Sprintf("%s saw %v", a.Who, source)
	}
}

// note counts a prediction that was held against all packets of a cell. Where each endpoint had its turns, each must have answered.
func (s *predictions) note(c cell, p prediction, complete bool) {
	s.asked++
	for _, who := range p.who {
		if complete && p.wrong == "" && !p.answered[who] {
			p.wrong = who + " never answered"
		}
	}
	if p.wrong == "" {
		s.agreed++
		return
	}
	if len(s.wrong) < 20 {
		s.wrong = append(s.wrong, fmt.Sprintf("%s, %s to %s: %v by %v, masqueraded %v: but %s", c.name, c.from, c.to, p.verdict.Outcome, p.who, p.verdict.Masqueraded, p.wrong))
	}
}
