package config

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"
)

// watchInterval is the time between two looks at the file. A look costs a read of a few kilobytes.
const watchInterval = 2 * time.Second

// Watch returns an error as soon as the configuration's file has other content than Load read there, and nil when the context
// ends or if there is no file. It reads the file again and again: that way it does not matter whether somebody writes into the
// file, renames another over it or swaps the symlink of a ConfigMap's volume. Content counts once it was the same twice, so
// that a write is complete; a file that is missing counts as unchanged.
func Watch(ctx context.Context, c *Config) error {
	if c.File == "" {
		return nil
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	last := c.FileContent
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
		if bytes.Equal(content, last) && !bytes.Equal(content, c.FileContent) {
			return fmt.Errorf("the configuration file %s has changed: a new start is needed", c.File)
		}
		last = content
	}
}
