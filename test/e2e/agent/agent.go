package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/test/lab"
)

// An agent does what requests ask for. Answers are plain text; what could not be done has the status 500 and says why.
type agent struct {
	sight   sight
	program []string

	mu      sync.Mutex
	process *process             // nil: none runs
	conns   map[string]*lab.Conn // that are kept, by the name that the test gave them
}

// mux says what can be asked for:
//
//	GET  /look?from=HOST&proto=tcp&to=ADDRESS:PORT&times=N&want=OUTCOME&want=...&within=10s
//	POST /open?name=NAME&from=HOST&proto=tcp&to=ADDRESS:PORT   open a connection and keep it
//	POST /say?name=NAME                                        ask over it
//	POST /start                                                start the program
//	POST /end?signal=9                                         end it, and say how it ended
//	GET  /log                                                  what it has printed, at all its lives
//	POST /run?command=SHELL                                    run a command line on the node
func (a *agent) mux() http.Handler {
	mux := http.NewServeMux()
	for pattern, do := range map[string]func(*http.Request) (string, error){
		"GET /look": a.look, "POST /open": a.open, "POST /say": a.say,
		"POST /start": a.start, "POST /end": a.end, "GET /log": a.log, "POST /run": a.run,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			text, err := do(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprint(w, text)
		})
	}
	return mux
}

func (a *agent) look(r *http.Request) (string, error) {
	q, err := a.question(r)
	if err != nil {
		return "", err
	}
	return a.sight.answer(r.Context(), q)
}

// question reads a question from a request.
func (a *agent) question(r *http.Request) (q question, err error) {
	form := r.URL.Query()
	protocols := map[string]inet.Protocol{"tcp": inet.TCP, "udp": inet.UDP, "sctp": inet.SCTP}
	q.from, q.proto, q.wanted = a.sight.host(form.Get("from")), protocols[form.Get("proto")], form["want"]
	if q.to, err = netip.ParseAddrPort(form.Get("to")); err != nil {
		return q, err
	}
	if form.Has("times") {
		if q.times, err = strconv.Atoi(form.Get("times")); err != nil {
			return q, err
		}
	}
	if form.Has("within") {
		q.within, err = time.ParseDuration(form.Get("within"))
	}
	return q, err
}

func (a *agent) open(r *http.Request) (string, error) {
	q, err := a.question(r)
	if err != nil {
		return "", err
	}
	conn, err := a.sight.lab.Dial(r.Context(), q.from, q.proto, q.to)
	if err != nil {
		return fate(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns[r.URL.Query().Get("name")] = conn
	return "open", nil
}

func (a *agent) say(r *http.Request) (string, error) {
	name := r.URL.Query().Get("name")
	a.mu.Lock()
	conn, ok := a.conns[name]
	a.mu.Unlock()
	if !ok {
		return "", fmt.Errorf("no connection %q", name)
	}
	answer := conn.Ask(r.Context())
	if answer.Err != nil {
		return fate(answer.Err)
	}
	return answer.Who, nil
}

func (a *agent) run(r *http.Request) (string, error) {
	out, err := exec.CommandContext(r.Context(), "sh", "-c", r.URL.Query().Get("command")).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return string(out), nil
}
