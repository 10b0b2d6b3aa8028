package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kube-ipvs/internal/inet"
)

// A scene is one case: what changes, what the table must show then, and who asks what and must be answered by whom.
type scene struct {
	title string
	words string

	file  string // the manifest that is put into the folder
	edits []edit // what changes in manifests that are there
	do    *act   // what else is done

	table  []server // the virtual servers of the case
	asks   []ask
	checks []check
}

// An edit replaces a part of a manifest that is in the folder.
type edit struct{ file, old, new string }

// An act is something that is done with the program.
type act struct {
	shown string // as an operator would type it
	run   func(context.Context, *stage) error
}

// A server is a virtual server as ipvsadm must show it.
type server struct {
	at    string   // protocol and address, such as "TCP 10.96.10.1:6711"
	how   string   // scheduler and flags
	reals []string // pods; " weight 0" after the name: finishes its connections
}

// An ask is the same request, some times.
type ask struct {
	from  string // a host of the laboratory
	times int
	to    string
	proto inet.Protocol // 0: TCP
	kept  bool          // over a connection that was opened before the case changed anything
	want  want
}

// A want is what must come of an ask.
type want struct {
	fate   string   // how it ends
	pods   []string // who answers: each of them
	same   bool     // or rather: one of them, always the same
	source string   // the host that the pods see; a pod that answers itself always sees the node
}

// A check is a command and what it must print.
type check struct{ command, want string }

// The fates of a request.
const (
	answered = "answered"
	refused  = "refused"
	silence  = "silence"
)

// each wants an answer from each of the pods, who see that source.
func each(source string, pods ...string) want {
	return want{fate: answered, pods: pods, source: source}
}

// one wants answers from one of the pods, who sees that source.
func one(source string, pods ...string) want {
	return want{fate: answered, pods: pods, same: true, source: source}
}

// String returns the want in a few words.
func (w want) String() string {
	switch {
	case w.fate == silence:
		return "silence: dropped"
	case w.fate != answered:
		return w.fate + " at once"
	case w.same && len(w.pods) > 1:
		return fmt.Sprintf("one of %d, %s", len(w.pods), w.source)
	case len(w.pods) > 2:
		return fmt.Sprintf("all %d, %s", len(w.pods), w.source)
	}
	return strings.Join(w.pods, " ") + ", " + w.source
}

// String returns the ask in a few words.
func (a ask) String() string {
	text := fmt.Sprintf("%s %dx %s", a.from, a.times, a.to)
	if a.proto != 0 && a.proto != inet.TCP {
		text += " " + strings.ToUpper(a.proto.String())
	}
	if a.kept {
		text += " (kept)"
	}
	return text
}

// An answer is what came of one request.
type answer struct {
	fate   string // one of the fates, or an error
	who    string
	source string // the name of the host with the address that the pod saw, or the address
	addr   string // the address
}

// complain says what is wrong with the answers, or "".
func (a ask) complain(answers []answer) string {
	seen := map[string]bool{}
	for _, got := range answers {
		if got.fate != a.want.fate {
			return fmt.Sprintf("%s, but must be %s", strings.TrimSpace(got.who+" "+got.fate), a.want.fate)
		}
		if got.fate != answered {
			continue
		}
		if !slices.Contains(a.want.pods, got.who) {
			return fmt.Sprintf("%s must not answer", got.who)
		}
		if source := a.source(got.who); got.source != source {
			return fmt.Sprintf("%s saw %s, but must see %s", got.who, got.source, source)
		}
		seen[got.who] = true
	}
	if a.want.same && len(seen) > 1 {
		return "more than one pod answered"
	}
	for _, pod := range a.want.pods {
		if !a.want.same && !seen[pod] {
			return fmt.Sprintf("%s never answered", pod)
		}
	}
	return ""
}

// source is the host that a pod must see.
func (a ask) source(pod string) string {
	if pod == a.from {
		return node
	}
	return a.want.source
}
