package cluster

import (
	"context"
	"path/filepath"
)

// StartControllers starts what turns Deployments into pods, and gives pods a node: the controller manager and the
// scheduler. Their logs are in the folder. Nodes' ranges of pod addresses stay what the test says.
func (c *Cluster) StartControllers(ctx context.Context, folder string) error {
	admin, err := c.Admin()
	if err != nil {
		return err
	}
	kubeconfig := filepath.Join(c.dir, "controllers.kubeconfig")
	if err := admin.WriteKubeconfig(kubeconfig); err != nil {
		return err
	}
	flags := []string{"--kubeconfig=" + kubeconfig, "--leader-elect=false"}
	for name, own := range map[string][]string{
		"kube-scheduler": nil,
		"kube-controller-manager": {
			"--controllers=*,-node-ipam-controller",
			"--root-ca-file=" + filepath.Join(c.dir, authorityFile),
			"--service-account-private-key-file=" + filepath.Join(c.dir, tokenKeyFile),
			"--node-monitor-grace-period=2m", // a busy test kernel is no broken node
			"--kube-api-qps=100", "--kube-api-burst=200",
		},
	} {
		program, err := Build(ctx, name)
		if err != nil {
			return err
		}
		if _, err := c.Run(name, folder, program, append(own, flags...)...); err != nil {
			return err
		}
	}
	return nil
}
