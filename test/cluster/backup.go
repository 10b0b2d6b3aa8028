package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Backup copies all that is stored to a folder that does not exist yet. Both servers end for that, and start again.
func (c *Cluster) Backup(ctx context.Context, folder string) error {
	return c.restart(ctx, func(data string) error { return os.CopyFS(folder, os.DirFS(data)) })
}

// Restore makes what is stored that of a backup, with the versions that objects had then: what was written since is lost, and
// versions that clients have seen will be given again, to other objects.
func (c *Cluster) Restore(ctx context.Context, folder string) error {
	return c.restart(ctx, func(data string) error {
		return errors.Join(os.RemoveAll(data), os.CopyFS(data, os.DirFS(folder)))
	})
}

// restart ends both servers, calls do with the folder of etcd's data, and starts them.
func (c *Cluster) restart(ctx context.Context, do func(data string) error) error {
	if err := c.StopServer(); err != nil {
		return err
	}
	etcd := c.processes[0]
	c.processes = nil
	if err := etcd.kill(); err != nil {
		return err
	}
	for _, socket := range []string{etcdSocket, peersSocket} { // a killed process leaves them
		if err := os.Remove(filepath.Join(c.dir, strings.TrimPrefix(socket, "unix://"))); err != nil {
			return err
		}
	}
	if err := do(filepath.Join(c.dir, dataDir)); err != nil {
		return err
	}
	return c.startServers(ctx)
}
