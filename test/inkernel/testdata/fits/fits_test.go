// Package fits is run by the runner's own test, through go test -exec.
package fits

import (
	"os"
	"testing"
)

func TestInsideAKernelWithIPVS(t *testing.T) {
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		t.Error(err)
	}
}

func TestWorkingDirectoryIsThePackage(t *testing.T) {
	if _, err := os.Stat("fits_test.go"); err != nil {
		t.Error(err)
	}
}

func TestFailsOnDemand(t *testing.T) {
	if why := os.Getenv("FITS_FAIL"); why != "" {
		t.Error(why)
	}
}
