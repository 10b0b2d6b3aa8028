// Package see is the commands that show what kube-ipvs does: on this node, and as kubectl's plugin on the nodes of a cluster. They ask
// sync/status, and know nothing of a kernel, so that they run wherever kubectl does.
package see

import "github.com/spf13/cobra"

// Commands returns the commands that ask the kube-ipvs of this node. Socket is the default of --socket.
func Commands(socket string) []*cobra.Command {
	return []*cobra.Command{getCommand(&asking{socket: socket}), explainCommand(&asking{socket: socket}), topCommand(&asking{socket: socket})}
}
