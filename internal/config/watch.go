package config

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"
)

// watchInterval is the time between two checks of the file. A check reads a few kilobytes.
const watchInterval = 2 * time.Second

// Watch returns an error as soon as the configuration's file differs from the content that Load read, and nil when the context
// is done or without a file. Content that a start would refuse is no reason to end, since nobody could start again: the file of a
// ConfigMap is the same on all nodes. Why it would is reported once, and nil when the file is as it was. Watch polls the file, which
// covers writes into it, renames over it and the swapped symlink of a ConfigMap's volume alike. New content counts after two equal
// reads, so that a write is complete; a missing file counts as unchanged.
func Watch(ctx context.Context, c *Config, report func(error)) error {
	if c.File == "" {
		return nil
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	last, known := c.FileContent, c.FileContent // what was read last, and the content that was dealt with
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		content, err := os.ReadFile(c.File)
		if err != nil {
			continue
		}
		if bytes.Equal(content, last) && !bytes.Equal(content, known) {
			known = content
			refused := c.Refuses(content)
			if refused == nil && !bytes.Equal(content, c.FileContent) {
				return fmt.Errorf("the configuration file %s has changed: a new start is needed", c.File)
			}
			report(refused)
		}
		last = content
	}
}
