package main

import (
	"context"
	"slices"

	"kube-ipvs/internal/inet"
)

// scenes returns the cases in their order. Each builds on what those before it left in the folder.
func scenes() []scene {
	return slices.Concat(clusterIPs(), withoutPods(), nodePorts(), changes(), encore(), restart())
}

func clusterIPs() []scene {
	return []scene{{
		title: "Normal cluster IP",
		words: `The Service has an address that no machine has, and three pods behind it; a route leads its whole range into the
			node, to IPVS. Whoever asks the address is led to each of them in turn. A pod that asks is seen with its own address; others (the node, the outside) are masqueraded
			as node1, so that answers come back through it. So is a pod that is led to itself: it would otherwise get its
			answer from an address that it never asked. A port that the Service does not have is refused.`,
		file:  "echo.yaml",
		table: []server{{"TCP 10.96.10.1:6711", "rr", echoes[:]}},
		asks: []ask{
			{from: asker, times: 6, to: "10.96.10.1:6711", want: each(asker, echoes[:]...)},
			{from: node, times: 6, to: "10.96.10.1:6711", want: each(node, echoes[:]...)},
			{from: client, times: 6, to: "10.96.10.1:6711", want: each(node, echoes[:]...)},
			{from: "echo-1", times: 6, to: "10.96.10.1:6711", want: each("echo-1", echoes[:]...)},
			{from: asker, times: 1, to: "10.96.10.1:22", want: want{fate: refused}},
		},
	}, {
		title: "Session affinity",
		words: `With sessionAffinity: ClientIP a client stays with the pod that it met first, for three hours (10800 s) unless
			the Service says otherwise. Any pod may be the first, but it must remain the same.`,
		file:  "echo-session.yaml",
		table: []server{{"TCP 10.96.10.2:6711", "rr persistent 10800", echoes[:]}},
		asks: []ask{
			{from: asker, times: 6, to: "10.96.10.2:6711", want: one(asker, echoes[:]...)},
			{from: client, times: 6, to: "10.96.10.2:6711", want: one(node, echoes[:]...)},
		},
	}, {
		title: "External IP",
		words: `The Service has one more address, which the network outside leads to this node. The node takes that port of it
			and no other, and does not have the address. There everybody is masqueraded, pods too; at the cluster IP a pod
			still is not.`,
		file:  "echo-extip.yaml",
		table: []server{{"TCP 203.0.113.33:8711", "rr", echoes[:]}},
		asks: []ask{
			{from: client, times: 6, to: "203.0.113.33:8711", want: each(node, echoes[:]...)},
			{from: asker, times: 6, to: "203.0.113.33:8711", want: each(node, echoes[:]...)},
			{from: node, times: 6, to: "203.0.113.33:8711", want: each(node, echoes[:]...)},
			{from: asker, times: 6, to: "10.96.10.3:8711", want: each(asker, echoes[:]...)},
		},
	}}
}

func withoutPods() []scene {
	return []scene{{
		title: "No endpoints",
		words: `No pod belongs to the Service: its virtual server has no real servers. Nobody has to wait for an answer that does
			not come: every request is refused at once, before IPVS sees it.`,
		file:  "echo-noep.yaml",
		table: []server{{"TCP 10.96.10.4:8711", "rr", nil}},
		asks: []ask{
			{from: asker, times: 2, to: "10.96.10.4:8711", want: want{fate: refused}},
			{from: node, times: 2, to: "10.96.10.4:8711", want: want{fate: refused}},
			{from: client, times: 2, to: "10.96.10.4:8711", want: want{fate: refused}},
		},
	}, {
		title: "Headless",
		words: `With clusterIP: None there is no address to balance. The cluster's DNS gives the pods' own addresses to whoever
			asks for the name, and the proxy has nothing to do: the table must not have the Service's port. Meanwhile the
			Service of the last case gets its first pod, which shows that the folder was read.`,
		file:  "echo-headless.yaml",
		edits: []edit{{"echo-noep.yaml", "endpoints: []", "endpoints: [{addresses: [10.244.1.11], nodeName: node1}]"}},
		table: []server{{"TCP 10.96.10.4:8711", "rr", []string{"echo-1"}}},
		asks: []ask{
			{from: asker, times: 1, to: "10.244.1.11:8080", want: each(asker, "echo-1")},
			{from: asker, times: 1, to: "10.244.1.12:8080", want: each(asker, "echo-2")},
			{from: asker, times: 1, to: "10.244.2.11:8080", want: each(asker, "echo-3")},
			{from: asker, times: 2, to: "10.96.10.4:8711", want: each(asker, "echo-1")},
		},
		checks: []check{{"ipvsadm -Ln | grep -c 9711", "0"}},
	}}
}

func nodePorts() []scene {
	const np, local, alias = "192.168.77.11:31529", "192.168.77.11:31534", "255.168.77.11:31534"
	return []scene{{
		title: "Node port, policy Cluster",
		words: `A port of the node itself leads to the pods of all nodes. Everybody is masqueraded: a pod on another node would
			otherwise answer the client directly, who would not know what to make of it.`,
		file:  "echo-np.yaml",
		table: []server{{"TCP " + np, "rr", echoes[:]}},
		asks: []ask{
			{from: client, times: 6, to: np, want: each(node, echoes[:]...)},
			{from: asker, times: 6, to: np, want: each(node, echoes[:]...)},
			{from: node, times: 6, to: np, want: each(node, echoes[:]...)},
			{from: asker, times: 6, to: "10.96.10.6:8711", want: each(asker, echoes[:]...)},
		},
	}, {
		title: "Node port, policy Local, with pods on this node",
		words: `With externalTrafficPolicy: Local clients outside get the pods of this node only, who see the client's own
			address. The policy does not concern internal sources: pods and the node get all pods. So there are two virtual
			servers: a rule translates the address for internal sources to its alias, which begins with 255.`,
		file: "echo-local.yaml",
		table: []server{
			{"TCP " + local, "rr", echoes[:2]},
			{"TCP " + alias, "rr", echoes[:]},
		},
		asks: []ask{
			{from: client, times: 6, to: local, want: each(client, echoes[:2]...)},
			{from: asker, times: 6, to: local, want: each(asker, echoes[:]...)},
			{from: node, times: 6, to: local, want: each(node, echoes[:]...)},
		},
	}, {
		title: "Node port, policy Local, without a pod on this node",
		words: `The two pods of this node go. Clients outside get no answer at all, so that a load balancer in front takes
			another node; pods and the node still get the pod on node2. One virtual server is enough again: connections from
			outside are dropped before they reach it.`,
		edits: []edit{{"echo-local.yaml", `- {addresses: [10.244.1.11], nodeName: node1} # echo-1
- {addresses: [10.244.1.12], nodeName: node1} # echo-2
`, ""}},
		table: []server{{"TCP " + local, "rr", echoes[2:]}},
		asks: []ask{
			{from: client, times: 2, to: local, want: want{fate: silence}},
			{from: asker, times: 2, to: local, want: each(asker, "echo-3")},
			{from: node, times: 2, to: local, want: each(node, "echo-3")},
		},
	}}
}

func changes() []scene {
	const at, third = "10.96.10.1:6711", "- {addresses: [10.244.2.11], nodeName: node2} # echo-3"
	const unready = "- {addresses: [10.244.2.11], nodeName: node2, conditions: {ready: false}} # echo-3"
	return []scene{{
		title: "A pod becomes unready",
		words: `The pod is still there but says that it is not ready. It gets the weight 0: new connections go to the others, and
			those that it has go on. One that asker opened before the change is marked "kept".`,
		edits: []edit{{"echo.yaml", third, unready}},
		table: []server{{"TCP " + at, "rr", []string{"echo-1", "echo-2", "echo-3 weight 0"}}},
		asks: []ask{
			{from: asker, times: 2, to: at, kept: true, want: each(asker, "echo-3")},
			{from: client, times: 6, to: at, want: each(node, echoes[:2]...)},
		},
	}, {
		title: "Scaled from 3 pods to 2",
		words: `The pod is listed no more. When its connections have ended, at the latest after the drain limit (2 s here, 15
			minutes unless told otherwise), it leaves the table.`,
		edits: []edit{{"echo.yaml", unready + "\n", ""}},
		table: []server{{"TCP " + at, "rr", echoes[:2]}},
		asks: []ask{
			{from: asker, times: 6, to: at, want: each(asker, echoes[:2]...)},
			{from: client, times: 6, to: at, want: each(node, echoes[:2]...)},
		},
	}}
}

func encore() []scene {
	return []scene{{
		title: "Both families",
		words: `A Service with an IPv4 and an IPv6 address leads each family to the pods' addresses of that family.`,
		file:  "echo-dual.yaml",
		table: []server{
			{"TCP 10.96.10.8:6711", "rr", []string{"echo-1", "echo-3"}},
			{"TCP [fd00:10:96::8]:6711", "rr", []string{"echo-1", "echo-3"}},
		},
		asks: []ask{
			{from: asker, times: 4, to: "10.96.10.8:6711", want: each(asker, "echo-1", "echo-3")},
			{from: asker, times: 4, to: "[fd00:10:96::8]:6711", want: each(asker, "echo-1", "echo-3")},
			{from: client, times: 4, to: "[fd00:10:96::8]:6711", want: each(node, "echo-1", "echo-3")},
		},
	}, {
		title: "UDP",
		words: `Datagrams are balanced like connections: those from one port go to one pod.`,
		file:  "echo-udp.yaml",
		table: []server{{"UDP 10.96.10.9:5300", "rr", echoes[:]}},
		asks: []ask{
			{from: asker, times: 6, to: "10.96.10.9:5300", proto: inet.UDP, want: each(asker, echoes[:]...)},
			{from: client, times: 6, to: "10.96.10.9:5300", proto: inet.UDP, want: each(node, echoes[:]...)},
		},
	}}
}

func restart() []scene {
	const at, ext = "10.96.10.1:6711", "203.0.113.33:8711"
	return []scene{{
		title: "The program stops",
		words: `Packets do not pass through the program: what it put into the kernel goes on without it, for connections that
			are open and for new ones.`,
		do:    &act{"kill -TERM kube-ipvs", func(_ context.Context, s *stage) error { return s.program.Stop() }},
		table: []server{{"TCP " + at, "rr", echoes[:2]}},
		asks: []ask{
			{from: client, times: 2, to: ext, kept: true, want: each(node, "echo-2")},
			{from: client, times: 6, to: ext, want: each(node, echoes[:]...)},
			{from: asker, times: 6, to: at, want: each(asker, echoes[:2]...)},
		},
	}, {
		title: "The program starts again",
		words: `While it did not run, the third pod came back. It reads what the kernel holds and changes only what differs:
			the connection that was opened before it stopped goes on.`,
		edits: []edit{{"echo.yaml", "# echo-2\n", "# echo-2\n- {addresses: [10.244.2.11], nodeName: node2} # echo-3\n"}},
		do:    &act{"kube-ipvs ... &", func(ctx context.Context, s *stage) error { return s.program.start(ctx) }},
		table: []server{{"TCP " + at, "rr", echoes[:]}},
		asks: []ask{
			{from: client, times: 2, to: ext, kept: true, want: each(node, "echo-2")},
			{from: asker, times: 6, to: at, want: each(asker, echoes[:]...)},
		},
	}}
}
