package ipvsmode

import "testing"

func TestReuseMode(t *testing.T) {
	for release, want := range map[string]string{
		"4.18.0-553.el8.x86_64": "0", "5.8.18": "0", "5.9.0": "1", "5.14.0-427.el9": "1", "6.1.0-13-amd64": "1", "7.2.13": "1", "": "1",
	} {
		if got := reuseMode(release); got != want {
			t.Errorf("reuseMode(%q) = %s, want %s", release, got, want)
		}
	}
}
