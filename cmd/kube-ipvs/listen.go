package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"time"

	"k8s.io/klog/v2"
)

// listen answers HTTP at an address until the context ends; "" is no address. One that is in use is tried again: the
// program that this one replaces may still have it.
func listen(ctx context.Context, address string, handler http.Handler) error {
	if address == "" {
		<-ctx.Done()
		return nil
	}
	const retry = 5 * time.Second
	for ctx.Err() == nil {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err == nil {
			err = answer(ctx, l, handler)
		}
		if ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot answer HTTP", "address", address, "retryAfter", retry)
			wait(ctx, retry)
		}
	}
	return nil
}

func answer(ctx context.Context, l net.Listener, handler http.Handler) error {
	s := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// profile answers what the tool pprof asks: go tool pprof http://ADDRESS/debug/pprof/heap.
func profile(mux *http.ServeMux) {
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// nodeName is the node's name: as given, or the host's as kubelet takes it, trimmed and in lower case.
func nodeName(given string) (string, error) {
	if given == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", err
		}
		given = host
	}
	return strings.ToLower(strings.TrimSpace(given)), nil
}
