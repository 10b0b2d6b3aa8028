package see

import (
	"regexp"
	"strings"
	"testing"

	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
)

// top tells why it has connections and no rates while the kernel does not count, and has rates again afterwards.
func TestTopWithoutEstimation(t *testing.T) {
	s := see(t)
	s.connect(t, "10.96.10.1:6711", "10.244.1.11:8080", 3)
	for _, tt := range []struct{ estimation, command, want string }{
		{"1", "top", `^NAMESPACE .*\ndefault +echo +3 +3 +[1-9]`},
		{"0", "top", `^New connections, packets and bytes are not counted on this node, as net\.ipv4\.vs\.run_estimation is 0 .*\nNAMESPACE .*\ndefault +echo +3 +3 +- +- +- +- +-\n$`},
		{"0", "top svc/echo", `^New connections.*\nFRONTEND .*\n10\.96\.10\.1:6711/tcp +10\.244\.1\.11:8080 .* 3 +3 +- `},
		{"0", "top -o json", `(?s)"active": 3.*"uncounted": "New connections`},
		{"1", "top", `^NAMESPACE .*\ndefault +echo +3 +3 +[1-9]`},
	} {
		if errs := s.settings.Do(t.Context(), []sysctl.Setting{{Name: ipvs.RunEstimation, Value: tt.estimation}}); errs != nil {
			t.Fatal(errs)
		}
		out, problems, exit := s.run(t, tt.command)
		if exit != 0 || !regexp.MustCompile(tt.want).MatchString(out) || strings.Contains(out, "PerSecond") && tt.estimation == "0" {
			t.Errorf("%s with run_estimation %s: exit status %d, %s%s\nwant %s", tt.command, tt.estimation, exit, problems, out, tt.want)
		}
	}
}
