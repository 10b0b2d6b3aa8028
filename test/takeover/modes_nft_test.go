//go:build kernel && compare && nft

package takeover

import "kube-ipvs/test/kubeproxy"

// modes is the one that only the emulated machine can run.
var modes = []string{kubeproxy.NFTables}
