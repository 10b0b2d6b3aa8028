package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// processOne is the first process of the kernel or of the namespaces: it prepares them, runs the job and ends them.
func processOne(dir string) {
	j, err := readJob(dir)
	if err == nil {
		err = j.carryOut().write(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "inkernel: process 1:", err) // to the console, which is shown because there is no outcome
	}
	if j.Machine != nil {
		unix.Sync() // files that the program wrote are still in this kernel's memory
		err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		fmt.Fprintln(os.Stderr, "inkernel: power off:", err)
	}
}

// carryOut prepares, runs and says how it went.
func (j job) carryOut() outcome {
	if err := j.prepare(); err != nil {
		return outcome{Failure: "prepare the test kernel: " + err.Error()}
	}
	out, err := j.openOutputs()
	if err != nil {
		return outcome{Failure: "open the program's outputs: " + err.Error()}
	}
	status, err := j.supervise(out)
	if err := errors.Join(err, out.close()); err != nil {
		return outcome{Failure: err.Error()}
	}
	return outcome{Status: status}
}

// supervise runs the program to its end and returns its exit status.
func (j job) supervise(out outputs) (int, error) {
	none, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer none.Close()
	program, err := os.StartProcess(j.Argv[0], j.Argv, &os.ProcAttr{
		Dir: j.Dir, Env: j.environment(), Files: []*os.File{none, out[0].program, out[1].program},
	})
	if err != nil {
		return 0, err
	}
	end, err := reapUntil(program.Pid)
	if err != nil {
		return 0, fmt.Errorf("wait for %s: %w", j.Argv[0], err)
	}
	if end.Signaled() {
		return statusSignal + int(end.Signal()), nil
	}
	return end.ExitStatus(), nil
}

// reapUntil reaps every orphan, as process 1 must, until the child with this pid has ended.
func reapUntil(pid int) (unix.WaitStatus, error) {
	for {
		var end unix.WaitStatus
		ended, err := unix.Wait4(-1, &end, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || ended == pid {
			return end, err
		}
	}
}

// environment is the job's, with our folder of programs first on PATH and the system's last.
func (j job) environment() []string {
	path := []string{variable(j.Env, "PATH")}
	if j.Machine != nil {
		path = append([]string{programFolder}, path...)
	}
	return setVariable(j.Env, "PATH", strings.Join(append(path, systemFolders...), ":"))
}
