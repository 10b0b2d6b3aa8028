package child

import (
	"bufio"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
)

// bePart is the part "times": it multiplies numbers by its argument, which it says first.
func bePart() {
	factor, _ := strconv.Atoi(os.Args[3])
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(factor)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			os.Exit(3)
		}
		_ = out.Encode(n * factor)
	}
}

func TestPart(t *testing.T) {
	p, err := StartPart(t.Context(), "times", nil, "3")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := p.Read(&n); err != nil || n != 3 {
		t.Errorf("it begins with %d, %v; want 3", n, err)
	}
	for _, x := range []int{4, 5} {
		if err := p.Ask(strconv.Itoa(x), &n); err != nil || n != 3*x {
			t.Errorf("%d times 3 is %d, %v", x, n, err)
		}
	}
	if err := p.End(); err != nil {
		t.Errorf("its end: %v", err)
	}
	if err := p.Ask("6", &n); err == nil || !strings.Contains(err.Error(), "ask times to 6") {
		t.Errorf("asked after its end: %v", err)
	}
}

// A part that fails, or is killed, says so at its end.
func TestPartThatFails(t *testing.T) {
	for what, spoil := range map[string]func(*Part){
		"it fails":     func(p *Part) { _ = p.Ask("four", new(int)) },
		"it is killed": func(p *Part) { p.Kill() },
	} {
		p, err := StartPart(t.Context(), "times", nil, "3")
		if err != nil {
			t.Fatal(err)
		}
		_ = p.Read(new(int))
		spoil(p)
		if err := p.End(); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
