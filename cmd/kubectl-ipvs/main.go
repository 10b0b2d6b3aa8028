// Kubectl-ipvs is a plugin of kubectl: "kubectl ipvs" shows what kube-ipvs does on the nodes of a cluster.
package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"kube-ipvs/internal/cli"
	"kube-ipvs/internal/see"
)

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version = "devel"

// completion is the name by which kubectl runs a plugin to complete words.
const completion = "kubectl_complete-ipvs"

func main() { cli.Main(see.Plugin(version), arguments(os.Args)) }

// arguments returns the arguments of a command line that begins with the program's name.
func arguments(line []string) []string {
	if strings.TrimSuffix(filepath.Base(line[0]), ".exe") == completion {
		return append([]string{cobra.ShellCompRequestCmd}, line[1:]...)
	}
	return line[1:]
}
