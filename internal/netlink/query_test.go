package netlink

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestQuery(t *testing.T) {
	const typ = 20
	done := func(seq uint32, n int32) reply {
		return reply{data: message(unix.NLMSG_DONE, unix.NLM_F_MULTI, seq, binary.NativeEndian.AppendUint32(nil, uint32(n)))}
	}
	data := func(seq uint32, flags uint16, parts ...string) reply {
		var p []byte
		for _, s := range parts {
			p = append(p, message(typ, unix.NLM_F_MULTI|flags, seq, []byte(s))...)
		}
		return reply{data: p}
	}
	stop := errors.New("stop")
	tests := []struct {
		name    string
		answer  func(seq uint32) []reply
		want    []string
		wantErr error
	}{
		{
			name: "a dump in two datagrams",
			answer: func(seq uint32) []reply {
				return []reply{data(seq, 0, "aaaa", "bbbb"), data(seq, 0, "cccc"), done(seq, 0)}
			},
			want: []string{"aaaa", "bbbb", "cccc"},
		},
		{
			name: "one object and the acknowledgement",
			answer: func(seq uint32) []reply {
				return []reply{data(seq, 0, "aaaa"), {data: errorMessage(seq, 0, 0, nil)}}
			},
			want: []string{"aaaa"},
		},
		{
			name:    "refused",
			answer:  func(seq uint32) []reply { return []reply{{data: errorMessage(seq, 0, unix.ESRCH, nil)}} },
			wantErr: unix.ESRCH,
		},
		{
			name: "interrupted",
			answer: func(seq uint32) []reply {
				return []reply{data(seq, 0, "aaaa"), data(seq, unix.NLM_F_DUMP_INTR, "bbbb"), done(seq, 0)}
			},
			want: []string{"aaaa"}, wantErr: ErrUnknown,
		},
		{
			name:   "error at the end",
			answer: func(seq uint32) []reply { return []reply{data(seq, 0, "aaaa"), done(seq, -int32(unix.ENOMEM))} },
			want:   []string{"aaaa"}, wantErr: ErrUnknown,
		},
		{
			name:   "lost",
			answer: func(seq uint32) []reply { return []reply{data(seq, 0, "aaaa"), {err: unix.ENOBUFS}, done(seq, 0)} },
			want:   []string{"aaaa"}, wantErr: ErrUnknown,
		},
		{
			name: "overrun",
			answer: func(seq uint32) []reply {
				return []reply{{data: message(unix.NLMSG_OVERRUN, 0, seq, nil)}, done(seq, 0)}
			},
			wantErr: ErrUnknown,
		},
		{
			name:   "late replies to what was given up",
			answer: func(seq uint32) []reply { return []reply{data(seq-1, 0, "old!"), data(seq, 0, "aaaa"), done(seq, 0)} },
			want:   []string{"aaaa"},
		},
		{
			name: "the caller's error",
			answer: func(seq uint32) []reply {
				return []reply{data(seq, 0, "stop", "bbbb"), data(seq, 0, "cccc"), done(seq, 0)}
			},
			want: []string{"stop"}, wantErr: stop,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fakeSocket{answer: tt.answer}
			c := New(s)
			var got []string
			err := c.Query(t.Context(), batchOf(1, 0), func(_ uint16, p []byte) error {
				got = append(got, string(p))
				if string(p) == "stop" {
					return stop
				}
				return nil
			})
			if !errors.Is(err, tt.wantErr) || (err != nil) != (tt.wantErr != nil) {
				t.Errorf("error %v, want %v", err, tt.wantErr)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("payloads (-want +got):\n%s", diff)
			}
			if err := c.ready(t.Context()); err != nil || len(s.queue) != 0 {
				t.Errorf("ready: %v, %d replies left unread", err, len(s.queue))
			}
		})
	}
}

func TestQueryWantsOneMessage(t *testing.T) {
	err := New(&fakeSocket{}).Query(t.Context(), batchOf(2, 0), nil)
	if err == nil {
		t.Error("Query of two messages: nil error")
	}
}
