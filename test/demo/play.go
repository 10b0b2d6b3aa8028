package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/lab"
)

// A result is what came of a scene.
type result struct {
	title    string
	requests int
	wrong    int
}

// A row is one line of a scene's table of requests.
type row struct{ asked, who, source, want, verdict string }

// playAll plays scenes.
func (s *stage) playAll(ctx context.Context, list []scene) error {
	for _, sc := range list {
		r, err := s.play(ctx, len(s.results)+1, sc)
		if err != nil {
			return fmt.Errorf("%s: %w\n%w", sc.title, err, s.program.LastWords())
		}
		s.results = append(s.results, r)
	}
	return nil
}

// play plays one scene and prints it.
func (s *stage) play(ctx context.Context, number int, sc scene) (result, error) {
	r := result{title: sc.title}
	s.out.headline(fmt.Sprintf("%d. %s", number, sc.title))
	s.out.paragraph("", sc.words)
	for _, a := range sc.asks {
		if err := s.keep(ctx, a); err != nil {
			return r, err
		}
	}
	since := time.Now()
	if err := s.change(ctx, sc); err != nil {
		return r, err
	}
	lines, right, err := s.await(ctx, sc.table, since)
	if err != nil {
		return r, err
	}
	s.out.listing(lines, right, time.Since(since))
	if !right {
		r.wrong++
	}
	var rows []row
	var complaints []string
	for _, a := range sc.asks {
		answers := s.ask(ctx, a)
		r.requests += len(answers)
		complaint := a.complain(answers)
		rows = append(rows, a.rows(answers, complaint == "")...)
		if complaint != "" {
			complaints = append(complaints, fmt.Sprintf("%v: %s", a, complaint))
		}
	}
	s.out.rows(rows, complaints)
	wrong, err := s.check(ctx, sc.checks)
	r.wrong += len(complaints) + wrong
	return r, err
}

// keep opens the connection of an ask that has one, if it is not open. It tries until the wanted pod has it.
func (s *stage) keep(ctx context.Context, a ask) error {
	if !a.kept || s.kept[a.key()] != nil {
		return nil
	}
	to, err := netip.ParseAddrPort(a.to)
	if err != nil {
		return err
	}
	for range 4 * len(echoes) {
		conn, err := s.lab.Dial(ctx, s.host(a.from), a.protocol(), to)
		if err != nil {
			return err
		}
		if conn.Ask(ctx).Who == a.want.pods[0] {
			s.kept[a.key()] = conn
			return nil
		}
		if err := conn.Close(); err != nil {
			return err
		}
	}
	return fmt.Errorf("no connection from %s to %s gets to %s", a.from, a.to, a.want.pods[0])
}

// key is what a kept connection is known by.
func (a ask) key() string { return a.from + " " + a.to }

// protocol is the protocol of an ask.
func (a ask) protocol() inet.Protocol {
	if a.proto == 0 {
		return inet.TCP
	}
	return a.proto
}

// ask asks as often as the ask says.
func (s *stage) ask(ctx context.Context, a ask) []answer {
	to, err := netip.ParseAddrPort(a.to)
	if err != nil {
		return []answer{{fate: err.Error()}}
	}
	var out []answer
	for range a.times {
		if a.kept {
			out = append(out, s.answer(s.kept[a.key()].Ask(ctx)))
		} else {
			out = append(out, s.answer(s.lab.Ask(ctx, s.host(a.from), a.protocol(), to)))
		}
	}
	return out
}

// answer puts an answer into the words of the demo.
func (s *stage) answer(got lab.Answer) answer {
	switch {
	case errors.Is(got.Err, lab.ErrRefused):
		return answer{fate: refused}
	case errors.Is(got.Err, lab.ErrSilence):
		return answer{fate: silence}
	case got.Err != nil:
		return answer{fate: got.Err.Error()}
	}
	from := got.Source.Addr()
	return answer{fate: answered, who: got.Who, source: s.name(from), addr: from.String()}
}

// rows are the lines of the table for an ask: one for each fate, and for each source that pods saw. A pod that answered
// itself comes last.
func (a ask) rows(answers []answer, right bool) []row {
	slices.SortStableFunc(answers, func(x, y answer) int {
		return cmp.Or(cmp.Compare(a.itself(x), a.itself(y)), cmp.Compare(x.who, y.who))
	})
	var out []row
	index := map[[2]string]int{}
	for _, got := range answers {
		key := [2]string{got.fate, got.addr}
		i, ok := index[key]
		if !ok {
			i = len(out)
			index[key] = i
			out = append(out, a.row(got, right))
		}
		if !strings.Contains(out[i].who, got.who) {
			out[i].who += " " + got.who
		}
	}
	out[0].asked, out[0].want = a.String(), a.want.String()
	return out
}

// itself is 1 if a pod answered itself, or else 0.
func (a ask) itself(got answer) int {
	if got.who == a.from {
		return 1
	}
	return 0
}

// row is a line of the table for one answer.
func (a ask) row(got answer, right bool) row {
	r := row{who: "nobody: " + got.fate, verdict: verdict(right)}
	if got.fate == answered {
		r.who, r.source = got.who, fmt.Sprintf("%s (%s)", got.addr, got.source)
	}
	if a.itself(got) == 1 {
		r.want = "itself: " + node
	}
	return r
}

// verdict is what is to be read of something that is right or not.
func verdict(right bool) string {
	if right {
		return "right"
	}
	return "WRONG"
}

// check runs a scene's commands and returns how many print something wrong. That a command fails is no error: grep -c does
// when it counts nothing.
func (s *stage) check(ctx context.Context, checks []check) (wrong int, err error) {
	for _, c := range checks {
		out, err := shell(ctx, c.command)
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			return wrong, err
		}
		got := strings.Join(strings.Fields(out), " ")
		if got != c.want {
			wrong++
		}
		s.out.check(c, got)
	}
	return wrong, nil
}
