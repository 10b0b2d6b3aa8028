package ipvsmode

import "fmt"

// In divert mode packets for addresses that the node does not have are diverted to it by a mark and routing rules.

// diverted returns rules for diverted packets, of which there are none in bind mode.
func (r rules) diverted(rules ...string) []string {
	if r.cfg.Bind {
		return nil
	}
	return rules
}

func (r rules) divert() string {
	return matchSet(r.sets.External, "dst,dst") + " " + setMark(r.cfg.Marks.Divert, r.cfg.Marks.Divert)
}

// divertAgain is for agents that write whole marks, or this bit: the connection's mark tells that its packets were diverted. Answers
// to them keep the bit if another agent restored it: if that saves marks, too, the connection would lose it.
//
// An answer that goes to an address and port that a Service wants, too, belongs to whoever began: a client of another node, or a pod's
// client anywhere, whose connection would end if the Service got it. But what conntrack picked up by an answer is the other way round.
func (r rules) divertAgain() []string {
	d := r.cfg.Marks.Divert
	return r.diverted(r.divert(),
		fmt.Sprintf("%s %s %s", r.notDiverted(), matchNoSet(r.sets.External, "dst,dst"), setMark(0, d)),
		fmt.Sprintf("-m mark --mark %#x/%#[1]x -m connmark ! --mark %#x/%#[2]x -m conntrack --ctdir REPLY %s %s",
			d, r.pickedUp(), matchSet(r.sets.External, "dst,dst"), setMark(0, d)))
}

// notDiverted matches packets with the mark of diverted ones in a connection without it.
func (r rules) notDiverted() string {
	return fmt.Sprintf("-m mark --mark %#x/%#[1]x -m connmark ! --mark %#[1]x/%#[1]x", r.cfg.Marks.Divert)
}

// pickedUp is the mark of a connection that conntrack forgot, after 30 seconds without a packet over UDP, and found again by an answer of its
// endpoint, so that its client's packets are answers to conntrack. No other connection has both bits: that to masquerade goes with its
// first packet.
func (r rules) pickedUp() uint32 { return r.cfg.Marks.Divert | r.cfg.Marks.Masquerade }

// pickUp marks such connections, as the last in POSTROUTING. A SYN is a client's, whose own address and port a Service may want, too.
func (r rules) pickUp() []string {
	answered := fmt.Sprintf("-m connmark ! --mark %#x/%#[1]x %s %s %s",
		r.cfg.Marks.Divert, sent, matchSet(r.sets.External, "src,src"), setConnmark(r.pickedUp(), r.pickedUp()))
	return r.diverted(notSYN+" "+answered, "! -p tcp "+answered)
}
