package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// jobVariable names, in the environment of process 1, the folder that holds the job and takes its outcome.
const jobVariable = "INKERNEL_JOB"

// job is what process 1 is to run. It goes through a file: a kernel's command line is short and knows no quoting of quotes.
type job struct {
	Argv    []string // Argv[0] is an absolute path
	Dir     string
	Env     []string
	Machine *machine // that process 1 has to itself; nil: namespaces on the host
}

// machine is what process 1 has to know of the kernel that it is to prepare.
type machine struct {
	Modules string // the folder of modules, with one for each release
	Legacy  bool   // whether iptables are the legacy tables: in user-mode Linux only these work
}

// outcome is how a job ended. Its absence says that the kernel died first.
type outcome struct {
	Status  int    // the program's exit status
	Failure string // why the program could not be run at all; then Status says nothing
}

// newJob describes the program as seen from here: same folder, same environment, plus extra.
func newJob(argv, extra []string) (job, error) {
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return job{}, err
	}
	if program, err = filepath.Abs(program); err != nil {
		return job{}, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return job{}, err
	}
	j := job{Argv: append([]string{program}, argv[1:]...), Dir: dir, Env: os.Environ()}
	for _, v := range extra {
		name, value, _ := strings.Cut(v, "=")
		j.Env = setVariable(j.Env, name, value)
	}
	return j, errors.Join(visible(program), visible(dir))
}

// variable returns the value of an environment variable.
func variable(env []string, name string) string {
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// setVariable sets an environment variable. None may be there twice: programs disagree which one counts.
func setVariable(env []string, name, value string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, name+"=") })
	return append(env, name+"="+value)
}

// visible returns an error if path lies where the test kernel mounts a file system of its own.
func visible(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, hidden := range []string{"/dev/", "/proc/", "/run/", "/sys/"} {
		if strings.HasPrefix(real+"/", hidden) {
			return fmt.Errorf("%s is not seen inside the test kernel, which has its own %s (set TMPDIR elsewhere?)", path, hidden)
		}
	}
	return nil
}

func (j job) write(dir string) error     { return writeJSON(filepath.Join(dir, "job"), j) }
func (o outcome) write(dir string) error { return writeJSON(filepath.Join(dir, "outcome"), o) }
func readJob(dir string) (job, error)    { return readJSON[job](filepath.Join(dir, "job")) }
func readOutcome(dir string) (outcome, error) {
	return readJSON[outcome](filepath.Join(dir, "outcome"))
}

// writeJSON writes v and makes sure that the other kernel sees all of it.
func writeJSON(path string, v any) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(f).Encode(v), f.Sync(), f.Close())
}

func readJSON[T any](path string) (T, error) {
	var v T
	text, err := os.ReadFile(path)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}
