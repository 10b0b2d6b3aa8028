package main

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

// One at a time has the lock: the next gets it when it is unlocked, or the process that had it is killed.
func TestLock(t *testing.T) {
	if os.Getenv("KUBE_IPVS_TEST_LOCK") != "" {
		if _, err := lock(); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("locked\n")
		select {}
	}
	unlock, err := lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(); !errors.Is(err, errLocked) {
		t.Errorf("the second: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}

	other := exec.Command(os.Args[0], "-test.run=^TestLock$")
	other.Env = append(os.Environ(), "KUBE_IPVS_TEST_LOCK=1")
	out, err := other.StdoutPipe()
	if err == nil {
		err = other.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := lock(); !errors.Is(err, errLocked) {
		t.Errorf("beside another process: %v", err)
	}
	_ = other.Process.Kill()
	_ = other.Wait() // killed
	unlock, err = lock()
	if err != nil {
		t.Fatalf("when the other one was killed: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}
