package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestCheckHistory(t *testing.T) {
	yes, no := true, false
	for _, tt := range []struct {
		name, from string
		initial    *bool
		now        string
		err        error
		asks       bool
		want       func(error) bool
	}{
		{name: "shorter than it was", from: "290", now: "222", asks: true, want: apierrors.IsResourceExpired},
		{name: "as long as it was", from: "290", now: "290", asks: true},
		{name: "longer", from: "290", now: "1000", asks: true},
		{name: "shorter, and no initial events are asked for", from: "290", initial: &no, now: "222", asks: true, want: apierrors.IsResourceExpired},
		{name: "the API server compares it itself", from: "290", initial: &yes, now: "222"},
		{name: "from now on", from: "", now: "222"},
		{name: "from any moment", from: "0", now: "222"},
		{name: "not a number", from: "a290", now: "222"},
		{name: "the other is not a number", from: "290", now: "b", asks: true},
		{name: "away", from: "290", err: syscall.ECONNREFUSED, asks: true, want: apierrors.IsTooManyRequests},
		{name: "cut off", from: "290", err: fmt.Errorf("dial tcp: %w", os.ErrDeadlineExceeded), asks: true, want: apierrors.IsTooManyRequests},
		{name: "without etcd", from: "290", err: fmt.Errorf("list: %w", apierrors.NewInternalError(errors.New("request timed out"))), asks: true, want: apierrors.IsTooManyRequests},
		{name: "too slow", from: "290", err: apierrors.NewTimeoutError("request timed out", 0), asks: true, want: apierrors.IsTooManyRequests},
		{name: "busy", from: "290", err: apierrors.NewTooManyRequests("try later", 1), asks: true, want: apierrors.IsTooManyRequests},
		{name: "not allowed", from: "290", err: apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "", nil), asks: true, want: apierrors.IsForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []metav1.ListOptions
			list := func(_ context.Context, o metav1.ListOptions) (runtime.Object, error) {
				asked = append(asked, o)
				return &corev1.ServiceList{ListMeta: metav1.ListMeta{ResourceVersion: tt.now}}, tt.err
			}
			err := checkHistory(t.Context(), list, metav1.ListOptions{ResourceVersion: tt.from, SendInitialEvents: tt.initial})
			if tt.want == nil && err != nil || tt.want != nil && !tt.want(err) {
				t.Errorf("%v", err)
			}
			if tt.asks != (len(asked) == 1) || tt.asks && (asked[0].Limit != 1 || asked[0].ResourceVersion != "") {
				t.Errorf("asked %+v", asked)
			}
		})
	}
}
