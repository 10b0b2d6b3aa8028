package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
)

// Read implements Kernel. It takes one dump of the virtual servers and one reading of /proc/net/ip_vs. Neither is a
// snapshot: during foreign changes either can miss a server (ip_vs_genl_dump_services continues by position). Read
// queries each server that only one of the two has, or all if there is no listing.
func (c *Conn) Read(ctx context.Context) (Table, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	table, err := c.servers(ctx)
	if err != nil {
		return nil, fmt.Errorf("read IPVS table: %w", err)
	}
	for _, key := range table.join(c.listed()) {
		if err := c.readInto(ctx, table, key); err != nil {
			return nil, fmt.Errorf("read IPVS table: %w", err)
		}
	}
	return table, nil
}

// Walk implements Kernel with one reading of /proc/net/ip_vs.
func (c *Conn) Walk(ctx context.Context, fn func(Key, Entry)) error {
	c.dumps.Add(1)
	text, err := c.listing()
	if err != nil {
		c.errors.Add(1)
		return fmt.Errorf("read /proc/net/ip_vs: %w", err)
	}
	defer text.Close()
	return errors.Join(ctx.Err(), walkListing(text, fn))
}

// listed returns the real servers of the listing, or none if it cannot be read; Read then queries each server.
func (c *Conn) listed() reals {
	c.dumps.Add(1)
	found, err := c.readListing()
	if err != nil {
		c.errors.Add(1)
		return nil
	}
	return found
}

func (c *Conn) readListing() (reals, error) {
	text, err := c.listing()
	if err != nil {
		return nil, err
	}
	defer text.Close()
	return parseListing(text)
}

// join gives the servers their real servers and returns the keys that only one side has.
func (t Table) join(found reals) (unmatched []Key) {
	for key, entry := range t {
		reals, ok := found[key]
		if !ok {
			unmatched = append(unmatched, key)
			continue
		}
		entry.Reals = reals
		t[key] = entry
	}
	for key := range found {
		if _, ok := t[key]; !ok {
			unmatched = append(unmatched, key)
		}
	}
	return unmatched
}

// readInto brings one server of the table up to date.
func (c *Conn) readInto(ctx context.Context, table Table, key Key) error {
	entry, err := c.readServer(ctx, key)
	switch {
	case errors.Is(err, os.ErrNotExist):
		delete(table, key)
		return nil
	case err != nil:
		return err
	}
	table[key] = entry
	return nil
}

// ReadServer implements Kernel.
func (c *Conn) ReadServer(ctx context.Context, key Key) (Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.readServer(ctx, key)
}

func (c *Conn) readServer(ctx context.Context, key Key) (Entry, error) {
	if !key.Addr.IsValid() {
		return Entry{}, fmt.Errorf("read %v: virtual address: %w", key, os.ErrInvalid)
	}
	entry := Entry{Reals: make(map[netip.AddrPort]RealState)}
	err := c.get(ctx, key, cmdGetService, func(_ uint16, p []byte) (err error) {
		_, entry.Server, err = parseService(p)
		return err
	})
	if err != nil {
		return Entry{}, fmt.Errorf("read %v: %w", key, translate(err))
	}
	err = c.get(ctx, key, cmdGetDest, func(_ uint16, p []byte) error {
		at, state, err := parseDest(p, uint16(inet.FamilyOf(key.Addr)))
		entry.Reals[at] = state
		return err
	})
	if err != nil {
		return Entry{}, fmt.Errorf("read real servers of %v: %w", key, translate(err))
	}
	return entry, nil
}

// servers dumps the virtual servers, without real servers.
func (c *Conn) servers(ctx context.Context) (Table, error) {
	table := make(Table)
	c.dumps.Add(1)
	err := c.resolving(ctx, func() error {
		clear(table)
		c.batch.Reset()
		c.batch.BeginGeneric(c.family, unix.NLM_F_DUMP, cmdGetService, familyVersion)
		c.batch.End()
		return c.query(ctx, func(_ uint16, p []byte) error {
			key, server, err := parseService(p)
			table[key] = Entry{Server: server, Reals: make(map[netip.AddrPort]RealState)}
			return err
		})
	})
	return table, err
}

// get queries one virtual server. GET_DEST of a missing server succeeds with an empty reply.
func (c *Conn) get(ctx context.Context, key Key, cmd uint8, fn func(uint16, []byte) error) error {
	if cmd == cmdGetDest {
		c.dumps.Add(1)
	}
	return c.resolving(ctx, func() error {
		c.batch.Reset()
		appendGet(&c.batch, c.family, cmd, key)
		return c.query(ctx, fn)
	})
}

// resolving runs a query, and once more if the family has another number by now.
func (c *Conn) resolving(ctx context.Context, query func() error) error {
	err := query()
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	changed, resolveErr := c.changed(ctx)
	switch {
	case resolveErr != nil:
		return resolveErr
	case changed:
		return query()
	}
	return err
}
