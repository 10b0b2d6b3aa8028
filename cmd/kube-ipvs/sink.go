package main

import (
	"sync"

	"github.com/go-logr/logr"

	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A sink passes what a source says on to the loop, and logs what the source cannot use.
type sink struct {
	*loop.Queue
	problems func() []plan.Problem
	log      logr.Logger

	mu   sync.Mutex
	said map[plan.Problem]bool
}

// ProblemsChanged logs the problems that are new.
func (s *sink) ProblemsChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := map[plan.Problem]bool{}
	for _, p := range s.problems() {
		message := "Part of the configuration is not used"
		if p.Note {
			message = "Something is odd about the configuration"
		}
		if !s.said[p] {
			s.log.Info(message, "object", p.Object, "field", p.Field, "reason", p.Reason)
		}
		said[p] = true
	}
	s.said = said
}
