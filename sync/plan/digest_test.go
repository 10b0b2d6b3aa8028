package plan

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
)

// digested returns a Service and slices with a value in every field that Compute reads.
func digested() (Service, []Slice) {
	addr := netip.MustParseAddr
	return Service{
			Name: Name{"shop", "web"}, UID: "1", Created: time.Unix(1, 0), Ports: []Port{{Name: "http", Proto: inet.TCP, Port: 80, NodePort: 30080}},
			ClusterIPs: []netip.Addr{addr("10.96.0.1"), addr("fd00::1")}, ExternalIPs: []netip.Addr{addr("203.0.113.1")},
			LoadBalancerIPs: []netip.Addr{addr("203.0.113.2")}, SourceRanges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
			Affinity: time.Hour, HealthCheckNodePort: 32000,
		}, []Slice{
			{Family: inet.IPv4, Ports: []SlicePort{{Name: "http", Proto: inet.TCP, Port: 8080}}, Endpoints: []Endpoint{
				{Addr: addr("10.244.1.1"), Node: "n1", Ready: true, Serving: true, ZoneHints: []string{"a"}, NodeHints: []string{"n1"}},
				{Addr: addr("10.244.2.1"), Node: "n2", Terminating: true},
			}},
			{Family: inet.IPv6, Ports: []SlicePort{{Name: "http", Proto: inet.TCP, Port: 8080}}},
		}
}

// Each field that Compute reads changes the digest: a new one of Service, Port, Slice or Endpoint must be put into Digest, or into
// the fields left out here.
func TestDigestCoversFields(t *testing.T) {
	leftOut := map[string]string{
		"Service.Problems": "follow from the object", "Slice.Problems": "follow from the object",
		"Slice.Name": "only problems have it", "Slice.Service": "the Service's own", "Slice.Triggered": "the time of a change",
	}
	svc, in := digested()
	before := Digest(svc, in)
	check := func(of any) {
		v := reflect.ValueOf(of).Elem()
		for i := range v.NumField() {
			name := v.Type().Name() + "." + v.Type().Field(i).Name
			old := reflect.New(v.Field(i).Type()).Elem()
			old.Set(v.Field(i))
			v.Field(i).Set(changed(old))
			if got := Digest(svc, in); (got == before) != (leftOut[name] != "") {
				t.Errorf("%s: the digest changes: %v", name, got != before)
			}
			v.Field(i).Set(old)
		}
	}
	check(&svc)
	check(&svc.Ports[0])
	check(&in[0])
	check(&in[0].Ports[0])
	check(&in[0].Endpoints[0])
	if Digest(svc, in) != before {
		t.Error("the digest of the same is not the same")
	}
}

// changed returns another value of a field: zero, or else not.
func changed(v reflect.Value) reflect.Value {
	switch {
	case !v.IsZero() || v.Kind() == reflect.Slice:
		if v.Kind() == reflect.Slice && v.Len() == 0 {
			return reflect.MakeSlice(v.Type(), 1, 1)
		}
		return reflect.Zero(v.Type())
	case v.Kind() == reflect.Bool:
		return reflect.ValueOf(true)
	case v.Kind() == reflect.String:
		return reflect.ValueOf("other")
	case v.CanUint():
		return reflect.ValueOf(1).Convert(v.Type())
	case v.Type() == reflect.TypeFor[time.Time]():
		return reflect.ValueOf(time.Unix(1, 0))
	}
	out := reflect.New(v.Type()).Elem()
	out.Field(0).SetString("other") // a Name
	return out
}

// The order of slices, and of endpoints in one, is not that of another node.
func TestDigestHasNoOrder(t *testing.T) {
	svc, in := digested()
	before := Digest(svc, in)
	slices.Reverse(in)
	slices.Reverse(in[1].Endpoints)
	if Digest(svc, in) != before {
		t.Error("another order is another digest")
	}
	in[1].Endpoints[0].Ready = true
	if Digest(svc, in) == before {
		t.Error("another endpoint is not another digest")
	}
}

// Values that are written alike one after the other are not the same.
func TestDigestKeepsValuesApart(t *testing.T) {
	a := Digest(Service{Name: Name{"ab", "c"}}, nil)
	b := Digest(Service{Name: Name{"a", "bc"}}, nil)
	one := netip.MustParseAddr("192.0.2.1")
	c := Digest(Service{ClusterIPs: []netip.Addr{one}}, nil)
	d := Digest(Service{ExternalIPs: []netip.Addr{one}}, nil)
	if a == b || c == d {
		t.Error("different Services have one digest")
	}
}
