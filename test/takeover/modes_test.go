//go:build kernel && compare && !nft

package takeover

import "kube-ipvs/test/kubeproxy"

// modes are those of kube-proxy that user-mode Linux can run.
var modes = []string{kubeproxy.IPTables, kubeproxy.IPVS}
