package steering

import "testing"

// TestPlaces states where our rules stand, by a stranger's rule.
func TestPlaces(t *testing.T) {
	for _, tt := range []struct{ stranger, first uint32 }{
		{0, 90}, {1, 90}, {2, 90}, {3, 90}, // nothing comes before those
		{4, 3}, {5, 3}, {6, 3}, {7, 3}, {8, 4}, {9, 5},
		{85, 81}, {89, 85}, {90, 86}, {91, 86}, {93, 86},
		{94, 90}, {99, 90}, {32766, 90},
	} {
		p := place(0)
		if r := (Rule{Priority: tt.stranger}); r.inFront() {
			p = placeBefore(r.Priority)
		}
		for n, i := range Policies(v4, 0x1000, 0x10)[:4] {
			if r := p.trade(i.Rule); r.Priority != tt.first+uint32(n) || r.Goto != 0 && r.Goto != tt.first+3 {
				t.Errorf("a stranger's at %d: %v, want priority %d", tt.stranger, r, tt.first+uint32(n))
			}
		}
	}
}

// What is said of strangers' rules is what the places do.
func TestStrangersBefore(t *testing.T) {
	for priority := uint32(1); priority < 200; priority++ {
		p, divert := place(0), Policies(v4, 0x1000, 0x10)[2].Rule
		r := Rule{Priority: priority}
		if r.inFront() {
			p = placeBefore(priority)
		}
		if first := priority <= p.trade(divert).Priority; StaysBefore(priority) != first {
			t.Errorf("%d: stays before ours: %v", priority, !first)
		}
		if ComesBefore(priority) && (StaysBefore(priority) || !r.inFront()) || !ComesBefore(priority) && !StaysBefore(priority) && r.inFront() {
			t.Errorf("%d: ours come before it: %v", priority, ComesBefore(priority))
		}
	}
}

// TestTrade wants every rule to have an Item of its own in every place, and to keep its order with the one that it goes to.
func TestTrade(t *testing.T) {
	for stranger := uint32(foremost + 1); stranger <= afterPriority; stranger++ {
		p, seen := placeBefore(stranger), map[uint32]bool{}
		for priority := range uint32(200) {
			r := Rule{Priority: priority, Goto: priority + 1}
			there := p.trade(r)
			if back := p.trade(there); back != r || seen[there.Priority] || there.Goto != there.Priority+1 {
				t.Errorf("a stranger's at %d: %v is traded for %v, and that for %v", stranger, r, there, back)
			}
			seen[there.Priority] = true
		}
	}
	last := Policies(v4, 0x1000, 0x10)[4].Rule
	if r := placeBefore(4).trade(last); r != last {
		t.Errorf("the rule of last resort is at %d", r.Priority)
	}
}
