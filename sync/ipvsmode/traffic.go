package ipvsmode

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
	"k8s.io/klog/v2"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A CountingTable reads IPVS's counters. It is not the loop's table, which would have to wait.
type CountingTable interface {
	// Totals returns the counters of all virtual servers.
	Totals(context.Context) (map[ipvs.Key]ipvs.Counters, error)
	// CountReals returns the real servers of one with their counters.
	CountReals(context.Context, ipvs.Key) (map[netip.AddrPort]ipvs.CountedReal, error)
}

// Traffic are the metrics of IPVS's counters: connections, packets and bytes by Service and by endpoint. The kernel counts for
// virtual servers, of which a Service has many, and begins anew when one is removed and added. So the increases are summed up
// here. Traffic before the first scrape counts as far as the kernel still has it. Of connections through an alias IPVS sees the
// first packet only.
//
// While the counters stand still, there are no series: one that stays as it is means that there is no traffic. When IPVS sums up
// again, the series go on, and all that was counted meanwhile comes as one increase.
//
// Scrapes at the same time share one reading. It takes one dump of the virtual servers, and one of the real servers for
// each of those whose endpoints have series; these are bounded.
type Traffic struct {
	table    CountingTable // nil: there is none, and nothing is read
	settings sysctl.Kernel // tell whether the table counts; nil: it does
	limit    int           // of series

	mu     sync.Mutex // guards owners
	owners map[ipvs.Key]plan.Name

	flight    singleflight.Group // of readings, to which the following belong
	last      reading
	cut       bool                       // the bound was reached
	servers   map[ipvs.Key]ipvs.Counters // as last read
	reals     map[ipvs.RealKey]ipvs.Counters
	services  map[plan.Name]ipvs.Counters // sums of increases
	endpoints map[endpoint]ipvs.Counters

	counts   prometheus.Gauge
	omitted  *prometheus.GaugeVec
	failures prometheus.Counter
	took     prometheus.Gauge
}

// A reading is the outcome of reading the kernel's counters.
type reading struct {
	at      time.Time // its end; zero: there was none
	err     error
	metrics []prometheus.Metric
}

// An endpoint of a Service.
type endpoint struct {
	service  plan.Name
	at       netip.AddrPort
	protocol inet.Protocol
}

const (
	// seriesOf is the number of series of a Service or an endpoint.
	seriesOf = 5
	// trafficAge is the age up to which a reading serves another scrape.
	trafficAge = time.Second
	// trafficTimeout is less than scrapers usually wait.
	trafficTimeout = 8 * time.Second
)

// newTraffic returns the metrics, registered.
func newTraffic(r prometheus.Registerer, table CountingTable, settings sysctl.Kernel, limit int) *Traffic {
	t := &Traffic{
		table: table, settings: settings, limit: limit, owners: map[ipvs.Key]plan.Name{},
		servers: map[ipvs.Key]ipvs.Counters{}, reals: map[ipvs.RealKey]ipvs.Counters{},
		services: map[plan.Name]ipvs.Counters{}, endpoints: map[endpoint]ipvs.Counters{},
		counts: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kube_ipvs_traffic_counted",
			Help: countedHelp}),
		omitted: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kube_ipvs_traffic_omitted_services",
			Help: "Services without metrics of traffic of a kind, service or endpoint, because of --traffic-series."}, []string{"kind"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "kube_ipvs_traffic_read_failures_total", Help: "Scrapes without metrics of traffic, as the kernel's counters could not be read."}),
		took:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "kube_ipvs_traffic_read_duration_seconds", Help: "How long it took to read the kernel's counters for the last scrape."}),
	}
	r.MustRegister(t)
	return t
}

const countedHelp = "1 if the kernel brings its counters of traffic up to date; 0 if not, as IPVS's estimation is off" +
	" (--ipvs-estimation): then there are no metrics of traffic."

// Labels are not "namespace", "service" and "endpoint", which Prometheus's operator gives to the target.
var (
	serviceLabels  = []string{"service_namespace", "service_name"}
	endpointLabels = append(serviceLabels[:2:2], "endpoint_address", "protocol")

	serviceTraffic = trafficDescs{
		connections: desc("kube_ipvs_service_connections_total", "Connections to a Service.", serviceLabels),
		packets:     desc("kube_ipvs_service_packets_total", "Packets of a Service; direction in is from clients.", serviceLabels, "direction"),
		bytes:       desc("kube_ipvs_service_bytes_total", "Bytes of a Service; direction in is from clients.", serviceLabels, "direction"),
	}
	endpointTraffic = trafficDescs{
		connections: desc("kube_ipvs_endpoint_connections_total", "Connections to an endpoint of a Service.", endpointLabels),
		packets:     desc("kube_ipvs_endpoint_packets_total", "Packets of an endpoint of a Service; direction in is from clients.", endpointLabels, "direction"),
		bytes:       desc("kube_ipvs_endpoint_bytes_total", "Bytes of an endpoint of a Service; direction in is from clients.", endpointLabels, "direction"),
	}
)

// trafficDescs describe the metrics of a kind.
type trafficDescs struct{ connections, packets, bytes *prometheus.Desc }

func desc(name, help string, labels []string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, slices.Concat(labels, more), nil)
}

// metrics returns the series of a Service or endpoint.
func (d trafficDescs) metrics(c ipvs.Counters, labels ...string) []prometheus.Metric {
	metric := func(desc *prometheus.Desc, n uint64, direction ...string) prometheus.Metric {
		return prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), slices.Concat(labels, direction)...)
	}
	return []prometheus.Metric{
		metric(d.connections, c.Connections),
		metric(d.packets, c.InPackets, "in"), metric(d.packets, c.OutPackets, "out"),
		metric(d.bytes, c.InBytes, "in"), metric(d.bytes, c.OutBytes, "out"),
	}
}

// Describe implements prometheus.Collector.
func (t *Traffic) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []trafficDescs{serviceTraffic, endpointTraffic} {
		ch <- d.connections
		ch <- d.packets
		ch <- d.bytes
	}
	t.counts.Describe(ch)
	t.omitted.Describe(ch)
	t.failures.Describe(ch)
	t.took.Describe(ch)
}

// Collect implements prometheus.Collector.
func (t *Traffic) Collect(ch chan<- prometheus.Metric) {
	if t.table == nil {
		return
	}
	r, _, _ := t.flight.Do("", func() (any, error) { return t.reading(), nil })
	if r.(reading).err != nil {
		t.failures.Inc()
	}
	for _, m := range r.(reading).metrics {
		ch <- m
	}
	t.counts.Collect(ch)
	t.omitted.Collect(ch)
	t.failures.Collect(ch)
	t.took.Collect(ch)
}

// reading returns the last reading, or a new one if it is too old.
func (t *Traffic) reading() reading {
	start := time.Now()
	if start.Sub(t.last.at) < trafficAge {
		return t.last
	}
	if uncounted(context.Background(), t.settings) != "" {
		t.counts.Set(0)
		t.took.Set(0)
		t.last = reading{at: start}
		return t.last
	}
	t.counts.Set(1)
	t.last = reading{err: t.update(), at: time.Now()}
	t.took.Set(t.last.at.Sub(start).Seconds())
	if t.last.err != nil {
		return t.last
	}
	for name, c := range t.services {
		t.last.metrics = append(t.last.metrics, serviceTraffic.metrics(c, name.Namespace, name.Name)...)
	}
	for e, c := range t.endpoints {
		t.last.metrics = append(t.last.metrics, endpointTraffic.metrics(c, e.service.Namespace, e.service.Name, e.at.String(), e.protocol.String())...)
	}
	return t.last
}

// own notes to which Service a virtual server belongs; the zero name: to none.
func (t *Traffic) own(key ipvs.Key, service plan.Name) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if service == (plan.Name{}) {
		delete(t.owners, key)
	} else {
		t.owners[key] = service
	}
}

// own notes to which Service the virtual servers of a frontend belong; the zero name: to none.
func (d *Dataplane) own(fe *plan.Frontend, service plan.Name) {
	d.count.traffic.own(KeyOf(fe.Address), service)
	if d.tables.hasAlias(fe) {
		d.count.traffic.own(AliasKey(fe.Address), service)
	}
}

// serversOf returns the virtual servers of each Service, in order.
func (t *Traffic) serversOf() (names []plan.Name, of map[plan.Name][]ipvs.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	of = map[plan.Name][]ipvs.Key{}
	for key, name := range t.owners {
		of[name] = append(of[name], key)
	}
	return slices.SortedFunc(maps.Keys(of), plan.Name.Compare), of
}

// update reads the counters and sums up their increases: of the first Services by name, and of the endpoints of the first of
// those, as far as the bound allows.
func (t *Traffic) update() error {
	ctx, cancel := context.WithTimeout(context.Background(), trafficTimeout)
	defer cancel()
	names, servers := t.serversOf()
	counted := names[:min(len(names), t.limit/seriesOf)]
	totals, err := t.table.Totals(ctx)
	if err != nil {
		return err
	}
	t.addServices(counted, servers, totals)
	left := t.limit - seriesOf*len(counted)
	detailed, err := t.addEndpoints(ctx, counted, servers, left)
	t.omitted.WithLabelValues("service").Set(float64(len(names) - len(counted)))
	t.omitted.WithLabelValues("endpoint").Set(float64(len(names) - detailed))
	if isCut := detailed < len(names); isCut != t.cut {
		if t.cut = isCut; isCut {
			klog.Background().Info("Not all Services have metrics of traffic: --traffic-series bounds them", "series", t.limit, "services", len(names), "withMetrics", len(counted), "withMetricsOfEndpoints", detailed)
		}
	}
	return err
}

// addServices adds the increases since the last reading, and forgets Services that are not counted any more.
func (t *Traffic) addServices(names []plan.Name, servers map[plan.Name][]ipvs.Key, totals map[ipvs.Key]ipvs.Counters) {
	services, read := make(map[plan.Name]ipvs.Counters, len(names)), map[ipvs.Key]ipvs.Counters{}
	for _, name := range names {
		sum := t.services[name]
		for _, key := range servers[name] {
			if now, exists := totals[key]; exists {
				sum = sum.Add(increase(t.servers[key], now))
				read[key] = now
			}
		}
		services[name] = sum
	}
	t.services, t.servers = services, read
}

// addEndpoints is addServices for endpoints. It returns the number of Services whose endpoints have series: it stops at the
// first that has too many, and reads no more of its virtual servers than it takes to see that.
func (t *Traffic) addEndpoints(ctx context.Context, names []plan.Name, servers map[plan.Name][]ipvs.Key, series int) (detailed int, err error) {
	endpoints, read := map[endpoint]ipvs.Counters{}, map[ipvs.RealKey]ipvs.Counters{}
services:
	for _, name := range names {
		of, counters := map[endpoint]ipvs.Counters{}, map[ipvs.RealKey]ipvs.Counters{}
		for _, key := range servers[name] {
			reals, err := t.table.CountReals(ctx, key)
			if err != nil {
				return detailed, err
			}
			for at, real := range reals {
				e, k := endpoint{name, at, key.Proto}, ipvs.RealKeyOf(key, at)
				if _, again := of[e]; !again {
					of[e] = t.endpoints[e]
				}
				of[e] = of[e].Add(increase(t.reals[k], real.Counters))
				counters[k] = real.Counters
			}
			if seriesOf*len(of) > series {
				break services
			}
		}
		series -= seriesOf * len(of)
		maps.Copy(endpoints, of)
		maps.Copy(read, counters)
		detailed++
	}
	t.endpoints, t.reals = endpoints, read
	return detailed, nil
}

// increase returns the traffic since an earlier reading.
func increase(before, now ipvs.Counters) ipvs.Counters {
	return ipvs.Counters(loop.Counters(now).Since(loop.Counters(before)))
}
