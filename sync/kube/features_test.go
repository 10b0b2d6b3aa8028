package kube

import (
	"testing"

	"k8s.io/client-go/features"
)

func TestSetFeatures(t *testing.T) {
	before := features.FeatureGates()
	t.Cleanup(func() { features.ReplaceFeatureGates(before) })
	watchList, cbor := before.Enabled(features.WatchListClient), before.Enabled(features.ClientsAllowCBOR)
	SetFeatures(map[string]bool{"WatchListClient": !watchList, "NoSuchGate": true})
	if now := features.FeatureGates().Enabled(features.WatchListClient); now == watchList {
		t.Errorf("WatchListClient is still on: %t", now)
	}
	if now := features.FeatureGates().Enabled(features.ClientsAllowCBOR); now != cbor {
		t.Errorf("ClientsAllowCBOR is on: %t, and nobody asked for it", now)
	}
	SetFeatures(nil)
	if now := features.FeatureGates().Enabled(features.WatchListClient); now == watchList {
		t.Error("nothing was given, and WatchListClient changed back")
	}
}
