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
// Answers that go to an address and port that a Service wants, too, belong to whoever began: a client of another node, or a pod's client
// anywhere, whose connections end if they are led to the Service's endpoints. They have no such mark.
func (r rules) divertAgain() []string {
	d := r.cfg.Marks.Divert
	return r.diverted(r.divert(),
		fmt.Sprintf("%s %s %s", r.notDiverted(), matchNoSet(r.sets.External, "dst,dst"), setMark(0, d)),
		fmt.Sprintf("%s -m conntrack --ctdir REPLY %s", r.notDiverted(), setMark(0, d)))
}

// notDiverted matches packets with the mark of diverted ones in a connection without it.
func (r rules) notDiverted() string {
	return fmt.Sprintf("-m mark --mark %#x/%#[1]x -m connmark ! --mark %#[1]x/%#[1]x", r.cfg.Marks.Divert)
}

// pickedUp marks a TCP connection that conntrack lost, and finds again by an answer of its endpoint, which IPVS sends on: to conntrack, the
// client's packets are the answers then. A SYN is a client's, whose own address and port may be a frontend, too.
func (r rules) pickedUp() string {
	return notSYN + " " + sent + " " + matchSet(r.sets.External, "src,src") + " " + setConnmark(r.cfg.Marks.Divert, r.cfg.Marks.Divert)
}
