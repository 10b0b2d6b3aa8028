package delta_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"kube-ipvs/sync/delta"
)

// A table compares the desired weights of real servers with the kernel's.
func ExampleTable() {
	weights := delta.New[string, int]()
	weights.Want("10.244.1.7:80", 1)
	weights.Want("10.244.2.9:80", 1)

	// The kernel has another weight for the first, lacks the second, and has one that nobody wants.
	weights.Observe(maps.All(map[string]int{"10.244.1.7:80": 0, "10.244.3.3:80": 1}))
	show(weights)

	for o := range weights.Missing() {
		weights.Made(o) // after the kernel confirmed it
	}
	for key := range weights.Extra() {
		weights.Forget(key)
	}
	fmt.Println("pending:", weights.Pending())

	// Output:
	// set 10.244.1.7:80 to 1, known: true
	// set 10.244.2.9:80 to 1, known: false
	// remove 10.244.3.3:80
	// pending: 0
}

// show prints the difference. The table yields it in no order, so it is sorted.
func show(weights *delta.Table[string, int]) {
	missing := slices.SortedFunc(weights.Missing(), func(a, b *delta.Object[string, int]) int { return cmp.Compare(a.Key(), b.Key()) })
	for _, o := range missing {
		fmt.Printf("set %s to %d, known: %t\n", o.Key(), o.Wanted(), o.IsKnown())
	}
	for _, key := range slices.Sorted(weights.Extra()) {
		fmt.Println("remove", key)
	}
}
