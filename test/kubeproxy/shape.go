package kubeproxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"kube-ipvs/test/child"
)

// Shapes describes metrics without their values: by name the type, the labels and the buckets, such as
// "histogram ip_family 0.001 0.002".
type Shapes map[string]string

// ShapesOf returns the shapes of metrics in Prometheus's text format.
func ShapesOf(text string) (Shapes, error) {
	families, err := child.MetricFamilies(text)
	return ShapesOfFamilies(slices.Collect(maps.Values(families))), err
}

// ShapesOfFamilies returns the shapes of metrics that were gathered.
func ShapesOfFamilies(families []*dto.MetricFamily) Shapes {
	out := Shapes{}
	for _, f := range families {
		words := []string{strings.ToLower(f.GetType().String())}
		labels, buckets := map[string]struct{}{}, []string(nil)
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = struct{}{}
			}
			if buckets == nil {
				for _, b := range m.GetHistogram().GetBucket() {
					buckets = append(buckets, fmt.Sprint(b.GetUpperBound()))
				}
			}
		}
		words = append(words, slices.Sorted(maps.Keys(labels))...)
		buckets = slices.DeleteFunc(buckets, func(b string) bool { return b == "+Inf" }) // the text has it, what is gathered has not
		out[f.GetName()] = strings.Join(append(words, buckets...), " ")
	}
	return out
}

// Only returns the shapes of the metrics whose names begin so.
func (s Shapes) Only(prefix string) Shapes {
	out := maps.Clone(s)
	maps.DeleteFunc(out, func(name, _ string) bool { return !strings.HasPrefix(name, prefix) })
	return out
}

// String returns the shapes in the order of their names, a line each.
func (s Shapes) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "%s %s\n", name, s[name])
	}
	return b.String()
}
