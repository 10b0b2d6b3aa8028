package netlink

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestError(t *testing.T) {
	var text Batch
	text.Text(unix.NLMSGERR_ATTR_MSG, "no such scheduler")
	request := []byte("request.")
	tests := []struct {
		name string
		p    []byte
		want Error
	}{
		{"a number alone", errorMessage(0, unix.NLM_F_CAPPED, unix.ENOENT, nil), Error{Errno: unix.ENOENT}},
		{"with the request", errorMessage(0, 0, 4103, request), Error{Errno: 4103, Request: request}},
		{
			"with a text behind the header",
			errorMessage(0, unix.NLM_F_CAPPED|unix.NLM_F_ACK_TLVS, unix.ENOENT, nil, text.buf...),
			Error{Errno: unix.ENOENT, Text: "no such scheduler"},
		},
		{
			"with a text behind the request",
			errorMessage(0, unix.NLM_F_ACK_TLVS, unix.ENOENT, request, text.buf...),
			Error{Errno: unix.ENOENT, Request: request, Text: "no such scheduler"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fakeSocket{answer: func(uint32) []reply { return []reply{{data: tt.p}} }}
			errs := New(s).Do(t.Context(), batchOf(1, 0))
			var got *Error
			if len(errs) != 1 || !errors.As(errs[0], &got) {
				t.Fatalf("Do: %v", errs)
			}
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if tt.want.Errno == unix.ENOENT && !errors.Is(errs[0], os.ErrNotExist) {
				t.Errorf("%v is not os.ErrNotExist", errs[0])
			}
		})
	}
}
