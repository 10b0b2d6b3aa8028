//go:build cluster

package cluster

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// folderVariable makes this test's program start a process in the folder that it names, and hang.
const folderVariable = "CLUSTER_TEST_FOLDER"

func TestMain(m *testing.M) {
	dir := os.Getenv(folderVariable)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := startAndHang(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// startAndHang starts a process, lets threads come and go, prints the process's pid and never ends.
func startAndHang(dir string) error {
	p, err := startProcess("sleep", exec.Command("sleep", "1000"), dir)
	if err != nil {
		return err
	}
	for range 100 {
		if err := onThread(func() error { return nil }); err != nil {
			return err
		}
	}
	fmt.Println(p.command.Process.Pid)
	select {}
}

// TestProcessesDieWithTheTest: not even a test that is killed leaves servers behind, and servers do not die earlier.
func TestProcessesDieWithTheTest(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(self)
	parent.Env = append(os.Environ(), folderVariable+"="+t.TempDir())
	parent.Stderr = os.Stderr
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err, parent.Wait())
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(t, pid) {
		t.Error("the process ended before the one that started it")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	parent.Wait() // ends with the signal, which is no news
	for deadline := time.Now().Add(10 * time.Second); alive(t, pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives the one that started it", pid)
		}
	}
}
