package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"kube-ipvs/internal/config"
	"kube-ipvs/ipvs/sysctl"
)

// Files of the machine outside /proc/sys.
const (
	hashSizeFile = "/sys/module/nf_conntrack/parameters/hashsize"
	oomScoreFile = "/proc/self/oom_score_adj"
)

// tuneConntrack configures the kernel's connection tracking. HashFile holds the size of its hash table. The error joins
// one for each setting that failed. Write writes a number to a file.
func tuneConntrack(ctx context.Context, settings sysctl.Kernel, hashFile string, cpus int, want config.Conntrack, write func(string, int) error) error {
	var now config.ConntrackNow
	if values, err := settings.Read(ctx, []string{config.MaxSetting}); err == nil {
		now.Max, _ = strconv.Atoi(values[config.MaxSetting]) // 0, not known, is set
	}
	hashSize, readErr := readNumber(hashFile)
	now.HashSize = hashSize
	wanted, larger := want.Settings(cpus, now)
	var errs []error
	if len(wanted) > 0 {
		settable := []sysctl.Setting{}
		for _, s := range wanted {
			settable = append(settable, sysctl.Setting(s))
		}
		errs = settings.Do(ctx, settable)
	}
	if larger > 0 {
		err := readErr
		if err == nil {
			err = write(hashFile, larger)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("hash table of conntrack: %w", err))
		}
	}
	return errors.Join(errs...)
}

// setOOMScore makes the kernel end this process later, or earlier, than others when memory is short.
func setOOMScore(file string, score int) error {
	if now, err := readNumber(file); err == nil && now == score {
		return nil
	}
	return writeNumber(file, score)
}

func readNumber(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// writeNumber writes a number to an existing file.
func writeNumber(file string, n int) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(n))
	return errors.Join(err, f.Close())
}
