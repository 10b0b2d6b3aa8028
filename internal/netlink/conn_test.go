package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
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

// The kernel acknowledges messages of type NLMSG_NOOP of anybody, so the real socket needs no privilege.
func TestRealSocket(t *testing.T) {
	c, err := Dial(unix.NETLINK_GENERIC)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if errs := c.Do(t.Context(), noops(20_000)); errs != nil {
		t.Errorf("20,000 empty messages: %v", errors.Join(errs...))
	}
	if id, err := c.Family(t.Context(), "nlctrl"); id != unix.GENL_ID_CTRL || err != nil {
		t.Errorf("family nlctrl: %d, %v; want %d", id, err, unix.GENL_ID_CTRL)
	}
	if id, err := c.Family(t.Context(), "no-such"); id != 0 || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("family no-such: %d, %v; want os.ErrNotExist", id, err)
	}
}

// Replies never overflow, even where all messages fail and the buffer is the system's default.
func TestRealSocketAllRefused(t *testing.T) {
	c, err := Dial(unix.NETLINK_GENERIC)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := unix.SetsockoptInt(c.socket.(*fileSocket).fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 212_992/2); err != nil {
		t.Fatal(err)
	}
	c.limits.replies = 212_992
	var b Batch
	for range 2_000 {
		b.BeginGeneric(0xffff, 0, 1, 1)
		b.End()
	}
	errs := c.Do(t.Context(), &b)
	if len(errs) != b.Len() {
		t.Fatalf("%d errors of %d messages", len(errs), b.Len())
	}
	for i, err := range errs {
		if !errors.Is(err, unix.ENOENT) {
			t.Fatalf("message %d: %v, want ENOENT", i, err)
		}
	}
}

func noops(n int) *Batch {
	var b Batch
	for range n {
		b.Begin(unix.NLMSG_NOOP, 0)
		b.End()
	}
	return &b
}
