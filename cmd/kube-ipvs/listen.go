package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"k8s.io/klog/v2"
)

// listen serves HTTP at an address until the context ends; the zero address means not at all. It retries an address in
// use, as the predecessor of this process may still have it, unless hardFail makes that an error. It calls failed for each
// attempt that fails.
func listen(ctx context.Context, address netip.AddrPort, hardFail bool, handler http.Handler, failed func(error)) error {
	if !address.IsValid() {
		<-ctx.Done()
		return nil
	}
	const retry = 5 * time.Second
	for ctx.Err() == nil {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address.String())
		if err != nil && ctx.Err() == nil {
			failed(err)
		}
		if err != nil && hardFail && ctx.Err() == nil {
			return fmt.Errorf("bindAddressHardFail: %w", err)
		}
		if err == nil {
			err = serveHTTP(ctx, l, &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute})
		}
		if ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "HTTP server failed", "address", address, "retryAfter", retry)
			wait(ctx, retry)
		}
	}
	return nil
}

// serveHTTP serves until the context ends.
func serveHTTP(ctx context.Context, l net.Listener, s *http.Server) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
