package config

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/kube-proxy/config/v1alpha1"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

// Default ports of the servers.
const (
	healthzPort = 10256
	metricsPort = 10249
)

// decoder reports the faults of a file that kube-proxy ignores, and returns the object nevertheless.
var decoder = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		panic(err) // only for types that are added twice
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}()

// Decode reads kube-proxy's configuration, YAML or JSON, and completes it with defaults. Unknown and doubled fields are
// ignored, as kube-proxy does: files in the field have them. Each is named in the second result. Of a doubled field the last
// value counts.
func Decode(data []byte) (*v1alpha1.KubeProxyConfiguration, []string, error) {
	object, _, err := decoder.Decode(data, nil, nil)
	var faults []string
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		for _, fault := range strict.Errors() {
			faults = append(faults, oneLine(fault.Error()))
		}
		err = nil
	}
	if err != nil {
		return nil, nil, err
	}
	cfg, ok := object.(*v1alpha1.KubeProxyConfiguration)
	if !ok {
		return nil, nil, fmt.Errorf("is no KubeProxyConfiguration of %s", v1alpha1.SchemeGroupVersion)
	}
	setDefaults(cfg)
	return cfg, faults, nil
}

// oneLine joins the lines of a message of the YAML library.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.TrimPrefix(s, "yaml: unmarshal errors:")), " ")
}

// Encode returns a configuration as a file, readable by kube-proxy too.
func Encode(cfg *v1alpha1.KubeProxyConfiguration) ([]byte, error) {
	if cfg == nil {
		return nil, errors.New("no configuration to write")
	}
	typed := cfg.DeepCopy()
	typed.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("KubeProxyConfiguration"))
	return yaml.Marshal(typed)
}

// setDefaults gives fields without a value kube-proxy's default.
func setDefaults(c *v1alpha1.KubeProxyConfiguration) {
	fill(&c.BindAddress, "0.0.0.0")
	setServerDefaults(c)
	fill(&c.OOMScoreAdj, ptr.To[int32](-999))
	setProxyDefaults(c)
	setConntrackDefaults(&c.Conntrack)
	fill(&c.ConfigSyncPeriod.Duration, 15*time.Minute)
	fill(&c.ClientConnection.ContentType, "application/vnd.kubernetes.protobuf")
	fill(&c.ClientConnection.QPS, 5)
	fill(&c.ClientConnection.Burst, 10)
	if c.FeatureGates == nil {
		c.FeatureGates = map[string]bool{}
	}
	logsapi.SetRecommendedLoggingConfiguration(&c.Logging)
}

// setServerDefaults completes the addresses of the HTTP servers. Their family is the bind address's.
func setServerDefaults(c *v1alpha1.KubeProxyConfiguration) {
	healthz, metrics := "[::]", "[::1]"
	if netutils.ParseIPSloppy(c.BindAddress).To4() != nil {
		healthz, metrics = "0.0.0.0", "127.0.0.1"
	}
	fill(&c.HealthzBindAddress, fmt.Sprintf("%s:%d", healthz, healthzPort))
	fill(&c.MetricsBindAddress, fmt.Sprintf("%s:%d", metrics, metricsPort))
	c.HealthzBindAddress = withPort(c.HealthzBindAddress, healthzPort)
	c.MetricsBindAddress = withPort(c.MetricsBindAddress, metricsPort)
}

func setProxyDefaults(c *v1alpha1.KubeProxyConfiguration) {
	fill(&c.IPTables.MasqueradeBit, ptr.To[int32](14))
	fill(&c.IPTables.LocalhostNodePorts, ptr.To(true))
	fill(&c.IPTables.SyncPeriod.Duration, 30*time.Second)
	fill(&c.IPTables.MinSyncPeriod.Duration, time.Second)
	fill(&c.IPVS.SyncPeriod.Duration, 30*time.Second)
	fill(&c.NFTables.MasqueradeBit, ptr.To[int32](14))
	fill(&c.NFTables.SyncPeriod.Duration, 30*time.Second)
	fill(&c.NFTables.MinSyncPeriod.Duration, time.Second)
}

func setConntrackDefaults(c *v1alpha1.KubeProxyConntrackConfiguration) {
	fill(&c.MaxPerCore, ptr.To[int32](32<<10))
	fill(&c.Min, ptr.To[int32](128<<10))
	fill(&c.TCPEstablishedTimeout, &metav1.Duration{Duration: 24 * time.Hour})
	fill(&c.TCPCloseWaitTimeout, &metav1.Duration{Duration: time.Hour})
}

// fill sets a field without a value.
func fill[T comparable](field *T, value T) {
	var none T
	if *field == none {
		*field = value
	}
}

// withPort adds a port to an address without one. Other text stays as it is: it is refused later.
func withPort(address string, port int) string {
	if netutils.ParseIPSloppy(address) == nil {
		return address
	}
	return net.JoinHostPort(address, strconv.Itoa(port))
}
