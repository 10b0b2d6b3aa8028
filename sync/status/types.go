// Package status has what an operator sees of a node: typed JSON over HTTP, which the program's subcommands, its kubectl plugin
// and its page for a browser share. A Server answers from the loop, a Client asks.
//
// Requests are GET /v1alpha1/RESOURCE with the parameters of Query: services, frontends, endpoints, drains, traffic and rates are
// Lists of the types of this package, explain is a List of Explanations, nodes one of the Node that is asked, overview one of its
// Overview, and groups one of Groups. An error is a Status with an HTTP status of 400 and more.
// Fields are added without a new version; a field that changes its meaning, or goes, needs one.
package status

import "time"

// APIVersion is the version of all types.
const APIVersion = "kube-ipvs/v1alpha1"

// A TypeMeta tells what an answer is.
type TypeMeta struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
}

// A List is the answer to a request: ServiceList, FrontendList, EndpointList, DrainList, TrafficList, RateList, ExplanationList,
// GroupList, NodeList or OverviewList.
type List[T any] struct {
	TypeMeta
	Node     string    `json:"node"`
	Time     time.Time `json:"time"`
	Items    []T       `json:"items"`
	Continue string    `json:"continue,omitempty"` // asks for the rest; empty: this is all
	Total    int       `json:"total,omitempty"`    // on all pages: Services, or items of the one that was asked for

	// Uncounted is why traffic is not counted: Counters of the items stand still or are missing, and there are no rates. A RateList has it
	// also as long as a rate would have to be told from such Counters.
	Uncounted string `json:"uncounted,omitempty"`
}

// A Status is the answer to a request that failed.
type Status struct {
	TypeMeta
	Message string `json:"message"`
	Code    int    `json:"code"` // the HTTP status
}

// A State tells whether something is served as its Service requests.
type State string

// The states of Services, frontends and endpoints.
const (
	Served    State = "Served"    // an endpoint: gets new connections
	Limited   State = "Limited"   // in part: not all frontends, sources or endpoints
	Rejecting State = "Rejecting" // a frontend refuses new connections, for lack of endpoints
	Dropping  State = "Dropping"  // a frontend drops new connections: its policy is Local, and no endpoint is here
	Pending   State = "Pending"   // not programmed yet
	NotServed State = "NotServed" // the reason tells why
)

// A Name names the Service that an item belongs to.
type Name struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
}

// A Service is a Service on this node.
type Service struct {
	Name
	State     State     `json:"state"`
	Reason    string    `json:"reason,omitempty"`
	Created   time.Time `json:"created,omitzero"`
	Frontends int       `json:"frontends"` // addresses and ports that it asks for
	Served    int       `json:"served"`    // of them, those that are on
	Endpoints int       `json:"endpoints"` // listed by slices, each port on its own
	Ready     int       `json:"ready"`     // of them, those that get new connections here
	Draining  int       `json:"draining"`  // keep connections, and get no new ones
	Problems  []string  `json:"problems,omitempty"`
	*Load
}

// A Frontend is an address and port of a Service.
type Frontend struct {
	Name
	Address      string   `json:"address"` // such as "10.96.0.10:53/udp"
	Kind         string   `json:"kind"`    // cluster IP, node port, external IP, load-balancer IP
	Port         string   `json:"port"`    // the name of the Service's port
	State        State    `json:"state"`
	Reason       string   `json:"reason,omitempty"`
	Owner        string   `json:"owner,omitempty"` // the Service that has the address, if it is another one
	Policy       string   `json:"policy"`          // Cluster or Local
	Source       string   `json:"source"`          // which sources endpoints see: keep source, masquerade, masquerade external
	Endpoints    int      `json:"endpoints"`       // that get new connections
	Internal     *int     `json:"internal,omitempty"`
	SourceRanges []string `json:"sourceRanges,omitempty"`
	Affinity     string   `json:"affinity,omitempty"` // how long a client stays with an endpoint
	Scheduler    string   `json:"scheduler,omitempty"`
	*Load
}

// An Endpoint is an address and port that serves one port of a Service.
type Endpoint struct {
	Name
	Port    string `json:"port"`    // the name of the Service's port
	Address string `json:"address"` // such as "10.244.1.11:8080/tcp"
	Pod     string `json:"pod,omitempty"`
	Node    string `json:"node,omitempty"`
	State   State  `json:"state"`
	Reason  string `json:"reason"` // why it gets new connections, or none
	*Load
}

// A Drain is an endpoint that gets no new connections from a frontend, and still has some.
type Drain struct {
	Name
	Frontend string    `json:"frontend"`
	Address  string    `json:"address"`
	Pod      string    `json:"pod,omitempty"`
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since,omitzero"` // when the last slice dropped it
	Ends     time.Time `json:"ends,omitzero"`  // when the drain limit ends its connections; zero: a slice lists it
	*Load
}

// A Load is the kernel's state behind an item. Counters are only in traffic and, unless they stand still, in answers about a single
// Service or with a limit of MaxDetailed at most.
type Load struct {
	Weight   *uint32 `json:"weight,omitempty"`
	Active   uint32  `json:"active"`   // established connections
	Inactive uint32  `json:"inactive"` // others: closing, or of UDP
	*Counters
}

// Counters count the traffic of IPVS since it got the endpoint or frontend, and are up to two seconds old. "In" is from clients.
type Counters struct {
	Connections uint64 `json:"connections"`
	InPackets   uint64 `json:"inPackets"`
	OutPackets  uint64 `json:"outPackets"`
	InBytes     uint64 `json:"inBytes"`
	OutBytes    uint64 `json:"outBytes"`
}

// A Traffic has the counters of a frontend of a Service, or, asked about one Service, of an endpoint behind it.
type Traffic struct {
	Name
	Frontend string `json:"frontend,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Pod      string `json:"pod,omitempty"`
	Load
}

// An Explanation tells the ways of packets to an address.
type Explanation struct {
	Address  string   `json:"address"`
	Service  string   `json:"service,omitempty"` // "namespace/name" of the Service that has it, or ""
	Kind     string   `json:"kind,omitempty"`    // of the frontend
	State    State    `json:"state,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Ways     []Way    `json:"ways"`
	Others   []Idle   `json:"others,omitempty"`   // endpoints that get no new connections, from some sources at least
	Problems []string `json:"problems,omitempty"` // of the Service
}

// A Way is the way of the first packet of a connection.
type Way struct {
	Origin    string `json:"origin"`         // pod, node, outside
	From      string `json:"from,omitempty"` // its source, if it was given
	Outcome   string `json:"outcome"`        // delivered, refused, dropped, not served
	Endpoints []Stop `json:"endpoints,omitempty"`
	Steps     []Step `json:"steps"`
}

// A Stop is an endpoint that may get the connection.
type Stop struct {
	Address string `json:"address"`
	Pod     string `json:"pod,omitempty"`
	Node    string `json:"node,omitempty"`
	Chance  string `json:"chance,omitempty"` // such as "1/3"; empty: the scheduler decides by more than its turn
	Source  string `json:"source"`           // the source that it sees: kept or masqueraded
}

// An Idle is an endpoint that gets no new connections, with the reason.
type Idle struct {
	Address string `json:"address"`
	Pod     string `json:"pod,omitempty"`
	Node    string `json:"node,omitempty"`
	Reason  string `json:"reason"`
}

// A Step is one decision on a packet's way.
type Step struct {
	Text    string `json:"text"`
	Command string `json:"command,omitempty"` // shows it in the kernel
}

// An Overview is a node as a whole.
type Overview struct {
	Node
	Numbers    map[Filter]int   `json:"numbers"` // of Services, by filter; missing: 0
	Waiting    int              `json:"waiting"` // Services with changes that are not programmed yet
	DrainLimit string           `json:"drainLimit"`
	Layers     []Layer          `json:"layers"`
	External   []ExternalChange `json:"externalChanges"` // by component
	Recent     []Sync           `json:"recent"`          // the last syncs, newest first
	Notable    []Sync           `json:"notable"`         // the last ones that failed or repaired something, newest first
}

// A Room is the number of things in a place, and how many it has room for.
type Room struct {
	Entries int `json:"entries"`
	Limit   int `json:"limit"`
}

// A Layer is the state of all kernel objects of one kind.
type Layer struct {
	Name    string `json:"name"`
	Present int    `json:"present"`
	Pending int    `json:"pending"` // not as wanted
	Failing int    `json:"failing"` // the kernel refused the change
	Error   string `json:"error,omitempty"`
}

// An ExternalChange counts the changes that others made to the objects of a component.
type ExternalChange struct {
	Component string    `json:"component"`
	Found     int       `json:"found"`
	Repaired  int       `json:"repaired"`
	Last      time.Time `json:"last,omitzero"`
}

// A Sync is a sync that had work.
type Sync struct {
	Began    time.Time `json:"began"`
	Seconds  float64   `json:"seconds"`
	Services int       `json:"services"` // that were planned
	Error    string    `json:"error,omitempty"`
	Repaired []string  `json:"repaired,omitempty"` // components with external changes
	Times    int       `json:"times"`              // that it failed in this way, one after the other
}
