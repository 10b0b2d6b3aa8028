package netlink

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// batchOf returns a batch of n messages with a payload of some bytes each.
func batchOf(n, payload int) *Batch {
	var b Batch
	for range n {
		b.Begin(unix.NLMSG_MIN_TYPE, 0)
		b.Raw(make([]byte, payload)...)
		b.End()
	}
	return &b
}

// outcomes says in a word what became of each message.
func outcomes(errs []error) []string {
	var out []string
	for _, err := range errs {
		var refused *Error
		switch {
		case err == nil:
			out = append(out, "done")
		case errors.Is(err, ErrUnknown):
			out = append(out, "unknown")
		case errors.As(err, &refused):
			out = append(out, unix.ErrnoName(refused.Errno))
		default:
			out = append(out, "unsent")
		}
	}
	return out
}

func TestDo(t *testing.T) {
	tests := []struct {
		name      string
		socket    fakeSocket
		batch     *Batch
		limits    limits
		want      []string
		wantSends int
	}{
		{name: "nothing to do", batch: batchOf(0, 0)},
		{name: "all well", batch: batchOf(3, 8), wantSends: 1},
		{
			name: "one in the middle is refused", batch: batchOf(3, 8), wantSends: 1,
			socket: fakeSocket{refuse: map[int]syscall.Errno{1: unix.EEXIST}},
			want:   []string{"done", "EEXIST", "done"},
		},
		{
			name: "the last is refused", batch: batchOf(3, 8), wantSends: 1,
			socket: fakeSocket{refuse: map[int]syscall.Errno{2: unix.ENOENT}},
			want:   []string{"done", "done", "ENOENT"},
		},
		{
			name: "all are refused", batch: batchOf(2, 8), wantSends: 1,
			socket: fakeSocket{refuse: map[int]syscall.Errno{0: unix.EPERM, 1: unix.EPERM}},
			want:   []string{"EPERM", "EPERM"},
		},
		{
			name: "too many bytes for a send", batch: batchOf(5, 100), wantSends: 3,
			limits: limits{send: 232, replies: 1 << 20},
		},
		{
			name: "too many replies for the receive buffer", batch: batchOf(5, 0), wantSends: 3,
			limits: limits{send: 1 << 20, replies: 2 * (replyCost + 2*headerLen)},
		},
		{
			name: "one message bigger than a send is the kernel's to refuse", batch: batchOf(1, 1000), wantSends: 1,
			limits: limits{send: 100, replies: 100},
			socket: fakeSocket{sendErrs: map[int]error{0: unix.EMSGSIZE}},
			want:   []string{"unsent"},
		},
		{
			name: "a failed send stops no other", batch: batchOf(4, 100), wantSends: 2,
			limits: limits{send: 232, replies: 1 << 20},
			socket: fakeSocket{sendErrs: map[int]error{0: unix.ENOMEM}},
			want:   []string{"unsent", "unsent", "done", "done"},
		},
		{
			name: "replies are lost", batch: batchOf(4, 100), wantSends: 2,
			limits: limits{send: 232, replies: 1 << 20},
			socket: fakeSocket{room: 1, refuse: map[int]syscall.Errno{0: unix.EEXIST}},
			want:   []string{"unknown", "unknown", "done", "done"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := New(&tt.socket)
			if tt.limits != (limits{}) {
				c.limits = tt.limits
			}
			got := outcomes(c.Do(t.Context(), tt.batch))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			if got := len(tt.socket.sends); got != tt.wantSends {
				t.Errorf("%d sends, want %d", got, tt.wantSends)
			}
			for _, p := range tt.socket.sends {
				wantAckOfLastOnly(t, p)
			}
		})
	}
}

func wantAckOfLastOnly(t *testing.T, p []byte) {
	t.Helper()
	var seqs []uint32
	for m := (walk{rest: p}); m.next(); {
		if got, want := m.flags&unix.NLM_F_ACK != 0, len(m.rest) == 0; got != want {
			t.Errorf("message %d of a send: acknowledgement asked for: %v, want %v", len(seqs), got, want)
		}
		if len(seqs) > 0 && m.seq != seqs[0]+uint32(len(seqs)) {
			t.Errorf("sequence number %d after %v", m.seq, seqs)
		}
		seqs = append(seqs, m.seq)
	}
}

// What was given up answers late: the next exchange must not take that for its own.
func TestDoAfterLostReplies(t *testing.T) {
	s := &fakeSocket{queue: []reply{{err: unix.ENOBUFS}}}
	c := New(s)
	if diff := cmp.Diff([]string{"unknown"}, outcomes(c.Do(t.Context(), batchOf(1, 0)))); diff != "" {
		t.Fatalf("first (-want +got):\n%s", diff)
	}
	s.queue = append(s.queue, reply{data: errorMessage(0, 0, unix.EEXIST, nil)}, reply{err: unix.ENOBUFS})
	if got := outcomes(c.Do(t.Context(), batchOf(2, 0))); got != nil {
		t.Errorf("second: %v, want nil", got)
	}
	if len(s.queue) != 0 {
		t.Errorf("%d replies left unread", len(s.queue))
	}
}

func TestDoIgnoresStrayMessages(t *testing.T) {
	s := &fakeSocket{answer: func(seq uint32) []reply {
		return []reply{
			{data: errorMessage(seq-1, 0, unix.EEXIST, nil)},
			{data: errorMessage(seq+1, 0, unix.EEXIST, nil)},
			{data: message(unix.NLMSG_MIN_TYPE, 0, seq, nil)},
			{data: []byte{1, 2, 3}},
			{data: errorMessage(seq, 0, 0, nil)},
		}
	}}
	if errs := New(s).Do(t.Context(), batchOf(1, 0)); errs != nil {
		t.Errorf("Do: %v, want nil", errs)
	}
}

func TestDoWithDoneContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &fakeSocket{}
	errs := New(s).Do(ctx, batchOf(2, 0))
	if diff := cmp.Diff([]string{"unsent", "unsent"}, outcomes(errs)); diff != "" || !errors.Is(errs[0], context.Canceled) {
		t.Errorf("outcomes %v (-want +got):\n%s", errs, diff)
	}
	if len(s.sends) != 0 {
		t.Errorf("%d sends after the context was done", len(s.sends))
	}
}

// silent takes what is sent and never answers; its user gives up meanwhile.
type silent struct {
	fakeSocket
	cancel context.CancelFunc
}

func (s *silent) Send([]byte) error { s.cancel(); return nil }

func TestDoWithContextDoneMeanwhile(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	errs := New(&silent{cancel: cancel}).Do(ctx, batchOf(1, 0))
	if len(errs) != 1 || !errors.Is(errs[0], ErrUnknown) || !errors.Is(errs[0], context.Canceled) {
		t.Errorf("Do: %v, want ErrUnknown and context.Canceled", errs)
	}
}

func TestReplyThatFillsTheBufferIsUnknown(t *testing.T) {
	s := &fakeSocket{answer: func(seq uint32) []reply {
		return []reply{{data: errorMessage(seq, 0, unix.EEXIST, make([]byte, 2*minBuffer))}}
	}}
	if diff := cmp.Diff([]string{"unknown"}, outcomes(New(s).Do(t.Context(), batchOf(1, 0)))); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}
