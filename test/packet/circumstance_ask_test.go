//go:build kernel

package packet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kube-ipvs/test/lab"
)

// in asks all cells in a circumstance, and says what is wrong.
func (tr *trial) in(c circumstance) {
	tr.t.Run(c.name, func(t *testing.T) {
		forget(t)
		tr.w.t = t
		begin := time.Now()
		for i, change := range c.changes {
			if err := change.do(tr.w); err != nil {
				t.Error(err)
			}
			defer func() {
				if err := c.changes[i].undo(tr.w); err != nil {
					t.Error(err)
				}
			}()
		}
		if c.moves {
			tr.p.settle()
		}
		tr.own = tr.p.nodeAddresses()
		done := time.Now()
		tr.right, tr.wrong = tally{}, nil
		cells := tr.asked
		if c.all {
			cells = slices.Concat(cells, tr.more)
		}
		if c.more != nil {
			cells = slices.Concat(cells, c.more(tr))
		}
		late := tr.askAgain(c, tr.askAll(c, cells, most))
		right := len(cells) - len(tr.wrong)
		if tr.forgive != nil {
			tr.forgive()
		}
		if tr.counted {
			tr.wrong = nil
		} else {
			tr.mind(t, c, cells)
		}
		tr.lines = append(tr.lines, fmt.Sprintf("%4d asked, %4d right (%d at the second attempt), set up in %v, asked in %v: %s",
			len(cells), right, late, done.Sub(begin).Round(time.Millisecond), time.Since(done).Round(time.Millisecond), c.name))
		tr.report(t)
	})
}

// mind takes the cells that a limit covers out of the wrong ones, and complains of those that were right.
func (tr *trial) mind(t *testing.T, c circumstance, cells []cell) {
	for _, l := range c.limits {
		if !slices.Contains(l.of, tr.subject) {
			continue
		}
		wrong := len(tr.wrong)
		covered := 0
		for _, cell := range cells {
			if l.covers(cell) {
				covered++
			}
		}
		tr.wrong = slices.DeleteFunc(tr.wrong, func(w wrongCell) bool { return l.covers(w.cell) })
		if n := wrong - len(tr.wrong); n < covered || covered == 0 {
			t.Errorf("limit %q: %d of its %d cells are right", l.reason, covered-n, covered)
		}
	}
}

// askAll asks cells, some at a time, and returns those that silence came of.
func (tr *trial) askAll(c circumstance, cells []cell, atATime int) (silent []cell) {
	work := make(chan cell)
	var wg sync.WaitGroup
	for range atATime {
		wg.Go(func() {
			for cell := range work {
				answer, complaint := tr.converse(c, cell)
				tr.mu.Lock()
				switch {
				case complaint == "":
					tr.right[cell.column()]++
				default:
					tr.wrong = append(tr.wrong, wrongCell{cell, answer, complaint})
					if fate(answer) == "silence" {
						silent = append(silent, cell)
					}
				}
				tr.mu.Unlock()
			}
		})
	}
	for _, cell := range cells {
		work <- cell
	}
	close(work)
	wg.Wait()
	return silent
}

// askAgain asks those once more that silence came of, fewer at a time: the machine may have been busy. It returns how many
// were right then.
func (tr *trial) askAgain(c circumstance, silent []cell) int {
	tr.wrong = slices.DeleteFunc(tr.wrong, func(w wrongCell) bool { return fate(w.answer) == "silence" })
	wrong := len(tr.wrong)
	tr.askAll(c, silent, mostAgain)
	return len(silent) - (len(tr.wrong) - wrong)
}

// converse asks a cell over connections of its own, until all have answered who may, with several requests over each. It
// returns the last answer, and what is wrong, or "".
func (tr *trial) converse(c circumstance, cell cell) (last lab.Answer, complaint string) {
	want := c.expects(cell)
	if cell.to == toNeighbour {
		return tr.askNeighbour(cell)
	}
	seen, took := map[string]bool{}, time.Duration(0)
	for n := 0; n < max(1, 2*len(want.who)) || n < 10*len(want.who) && len(seen) < len(want.who); n++ {
		if n > 1 && n >= 2*len(want.who) {
			time.Sleep(rand.N(5*time.Millisecond + 2*took)) // others who ask at the same pace may get the other endpoints each time
		}
		begin := time.Now()
		if last, complaint = tr.connection(c, cell, want); complaint != "" {
			return last, complaint
		}
		seen[last.Who], took = true, time.Since(begin)
	}
	for _, e := range want.who {
		if !seen[e.pod] {
			return last, fmt.Sprintf("%s never answered", e.pod)
		}
	}
	return last, ""
}

// expects is what comes of a cell in the circumstance.
func (c circumstance) expects(cell cell) outcome {
	if c.closed != nil && c.closed(cell) {
		return outcome{fate: unanswered}
	}
	return cell.want
}

// connection asks over one connection.
func (tr *trial) connection(c circumstance, cell cell, want outcome) (last lab.Answer, complaint string) {
	wait := shortly
	if want.fate == unanswered {
		wait = atOnce
	}
	ctx := context.Background()
	conn, err := tr.w.Dial(ctx, tr.w.host(cell.from), cell.proto, cell.at, lab.Wait(wait), lab.OwnPort())
	if err != nil {
		last = lab.Answer{Err: err}
		return last, tr.complainIn(c, cell, want, last)
	}
	defer conn.Close()
	for n := range exchanges {
		before := last
		last = conn.Ask(ctx)
		if complaint = tr.complainIn(c, cell, want, last); complaint != "" {
			return last, fmt.Sprintf("request %d: %s", n+1, complaint)
		}
		switch {
		case last.Err != nil:
			return last, ""
		case n > 0 && last != before:
			return last, fmt.Sprintf("request %d: %v, and %v before", n+1, last, before)
		}
	}
	return last, ""
}

// complainIn says what is wrong with an answer in the circumstance, or "".
func (tr *trial) complainIn(c circumstance, cell cell, want outcome, a lab.Answer) string {
	if want.fate == unanswered {
		if a.Err == nil {
			return fmt.Sprintf("%s answered, want %s", a.Who, unanswered)
		}
		return ""
	}
	if a.Err == nil && slices.ContainsFunc(want.who, func(e endpoint) bool { return e.pod == a.Who }) {
		nobodys := cell.to == toHostPort || cell.to == toPod || cell.to == toNode2
		if a.Who == "node1" || c.marked && nobodys {
			return ""
		}
	}
	cell.want = want
	return tr.complain(cell, a)
}

// askNeighbour sends a datagram from the router, and looks whether somebody told it where to.
func (tr *trial) askNeighbour(cell cell) (a lab.Answer, complaint string) {
	a = tr.w.Ask(context.Background(), tr.w.Router, cell.proto, cell.at, lab.Wait(atOnce))
	family := unix.AF_INET
	if cell.at.Addr().Is6() {
		family = unix.AF_INET6
	}
	err := tr.w.Router.Do(func() error {
		neighbours, err := netlink.NeighList(0, family)
		for _, n := range neighbours {
			if at, _ := netip.AddrFromSlice(n.IP); at.Unmap() == cell.at.Addr() && len(n.HardwareAddr) > 0 {
				return errors.Join(err, fmt.Errorf("%v has %v", n.HardwareAddr, at))
			}
		}
		return err
	})
	if err != nil {
		return a, err.Error()
	}
	return a, ""
}

// forget makes the kernel forget all connections, which another proxy or circumstance must not be held to.
func forget(t *testing.T) {
	t.Helper()
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		t.Fatal(err)
	}
}

// inAll runs circumstances, after and before none of them, and prints the table.
func (tr *trial) inAll(circumstances []circumstance) {
	defer func() { tr.t.Logf("%s\n%s", tr.subject, strings.Join(tr.lines, "\n")) }()
	tr.in(circumstance{name: "control", all: true})
	for _, c := range circumstances {
		tr.in(c)
	}
	tr.in(circumstance{name: "control, at the end", all: true})
}

// startIn starts a proxy in a circumstance, and asks, after the trial was told what it is to forgive.
func startIn(t *testing.T, c circumstance, name string, prepare func(*trial), begin func(*testing.T, *world) subject) {
	t.Run(c.name, func(t *testing.T) {
		w := newWorld(t, lab.Config{Forward: true, NotCounting: true})
		for _, change := range c.changes {
			if err := change.do(w); err != nil {
				t.Error(err)
			}
			t.Cleanup(func() {
				if err := change.undo(w); err != nil {
					t.Error(err)
				}
			})
		}
		c.changes = nil
		tr := newTrial(t, w, begin(t, w), name, cmp.Or(c.uplink, "eth0"))
		prepare(tr)
		tr.in(c)
		t.Log(strings.Join(tr.lines, "\n"))
	})
}
