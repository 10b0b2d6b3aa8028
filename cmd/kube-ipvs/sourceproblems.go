package main

import (
	"github.com/go-logr/logr"

	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source"
)

// logProblems logs the new ones of a source's problems.
func logProblems(log logr.Logger) source.Problems {
	logged := reported[struct{}]{}
	return func(problems []plan.Problem) {
		added, _ := logged.replace(struct{}{}, problems)
		for _, p := range added {
			message := "Ignoring part of an object"
			if p.Note {
				message = "Non-standard value in an object"
			}
			log.Info(message, "object", p.Object, "field", p.Field, "reason", p.Reason)
		}
	}
}
