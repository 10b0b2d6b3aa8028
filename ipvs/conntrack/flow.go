package conntrack

import (
	"fmt"
	"net/netip"

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
)

// A tracked flow is one message of a dump. The slices alias the message.
type tracked struct {
	Flow
	orig []byte // CTA_TUPLE_ORIG, the key for its deletion
	id   []byte // CTA_ID, which protects a successor with the same key
	zone []byte // CTA_ZONE, or nil
}

// parseFlow parses a message of the reply to IPCTNL_MSG_CT_GET. It allocates nothing.
func parseFlow(payload []byte) (tracked, error) {
	var t tracked
	var orig, reply tuple
	a := netlink.ParseNetfilter(payload)
	ok := true
	for a.Next() {
		switch a.Type() {
		case attrOrig:
			t.orig = a.Data()
			ok = orig.parse(a.Nested()) && ok
		case attrReply:
			ok = reply.parse(a.Nested()) && ok
		case attrID:
			t.id = a.Data()
		case attrZone:
			t.zone = a.Data()
		}
	}
	if !ok || a.Err() != nil {
		return tracked{}, fmt.Errorf("flow: %w", netlink.ErrMalformed)
	}
	t.Flow = Flow{
		Proto: orig.proto, Client: netip.AddrPortFrom(orig.src, orig.srcPort),
		Frontend: netip.AddrPortFrom(orig.dst, orig.dstPort), Endpoint: netip.AddrPortFrom(reply.src, reply.srcPort),
	}
	return t, nil
}

// A tuple is one direction of a flow. Protocols without ports have 0.
type tuple struct {
	src, dst         netip.Addr
	srcPort, dstPort uint16
	proto            inet.Protocol
}

// parse reports whether the attributes were well-formed.
func (t *tuple) parse(a netlink.Attrs) bool {
	ok := true
	for a.Next() {
		switch a.Type() {
		case tupleIP:
			ok = t.parseIP(a.Nested()) && ok
		case tupleProto:
			ok = t.parseProto(a.Nested()) && ok
		}
	}
	return ok && a.Err() == nil
}

func (t *tuple) parseIP(a netlink.Attrs) bool {
	for a.Next() {
		switch a.Type() {
		case ipV4Src, ipV6Src:
			t.src = a.Addr()
		case ipV4Dst, ipV6Dst:
			t.dst = a.Addr()
		}
	}
	return a.Err() == nil
}

func (t *tuple) parseProto(a netlink.Attrs) bool {
	for a.Next() {
		switch a.Type() {
		case protoNum:
			t.proto = inet.Protocol(a.Uint8())
		case protoSrc:
			t.srcPort = a.Uint16BE()
		case protoDst:
			t.dstPort = a.Uint16BE()
		}
	}
	return a.Err() == nil
}
