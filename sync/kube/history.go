package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// A resource is a client of one kind of object: L is its list.
type resource[L runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// newInformer returns an informer of those objects of a resource to which restrict restricts a request. It notices that the API
// server was restored from a backup.
func newInformer[L runtime.Object](client kubernetes.Interface, r resource[L], object runtime.Object, indexers cache.Indexers,
	restrict func(*metav1.ListOptions)) cache.SharedIndexInformer {
	list := func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		restrict(&o)
		return r.List(ctx, o)
	}
	return cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: list,
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			if err := checkHistory(ctx, list, o); err != nil {
				return nil, err
			}
			restrict(&o)
			return r.Watch(ctx, o)
		},
	}, client), object, 0, indexers)
}

// checkHistory returns an error, as of a version that has expired, if a watch is to begin at a version that the API server has not
// reached: it was restored from a backup, and gives versions anew. Such a watch would be silent until the version is reached,
// and wrong from then on. With the error the informer reads everything anew.
//
// The API server must have been away for that, so the begin of each watch is the time to ask. It is a list of one object: read from
// the store, its version is at least any that was given before. Versions of one resource are comparable since Kubernetes 1.35
// (KEP-5504), and were numbers always; one that is none is not compared. A history that has passed the version while this
// node was cut off is not noticed.
func checkHistory(ctx context.Context, list func(context.Context, metav1.ListOptions) (runtime.Object, error), o metav1.ListOptions) error {
	if o.SendInitialEvents != nil && *o.SendInitialEvents {
		return nil // it is a list, too, for which the API server compares versions
	}
	from, ok := versionNumber(o.ResourceVersion)
	if !ok {
		return nil
	}
	first, err := list(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return retryable(ctx, fmt.Sprintf("%T", first), err)
	}
	access, err := meta.ListAccessor(first)
	if err != nil {
		return err
	}
	now, ok := versionNumber(access.GetResourceVersion())
	if !ok || now >= from {
		return nil
	}
	klog.FromContext(ctx).Info("The API server's history is shorter than it was: it was restored from a backup; reading everything anew",
		"type", fmt.Sprintf("%T", first), "version", now, "before", from)
	return apierrors.NewResourceExpired(fmt.Sprintf("the API server is at version %d, before %d", now, from))
}

// retryable returns the error of an attempt to begin a watch as one after which the informer tries it again, with back-off, if the API
// server was not reached or cannot tell, as without etcd. After any other error the informer reads everything anew, and all nodes would,
// each time that a watch ends, from an API server that has trouble as it is. An answer about the request itself stays what it is.
func retryable(ctx context.Context, typ string, err error) error {
	var answer apierrors.APIStatus
	if errors.As(err, &answer) && answer.Status().Code < http.StatusInternalServerError {
		return err
	}
	if ctx.Err() == nil {
		klog.FromContext(ctx).Info("Cannot begin a watch; trying again, with what was read before", "type", typ, "reason", err)
	}
	return apierrors.NewTooManyRequests(err.Error(), 0)
}

// versionNumber returns a resource version as a number. It reports false for one that names no moment, "" or "0", or is no number.
func versionNumber(version string) (uint64, bool) {
	n, err := strconv.ParseUint(version, 10, 64)
	return n, err == nil && n > 0
}
