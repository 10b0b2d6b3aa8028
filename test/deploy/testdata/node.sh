#!/bin/bash
# The life of a node with the pod on it: node.sh COMMAND... starts the container, waits until the node reaches the API
# server by its Service, prints what it then sees and ends. What the container printed comes last. PROBE is the URL of the
# liveness probe.
touch /run/xtables.lock                        # the kubelet makes it: hostPath, FileOrCreate
iptables-legacy -t mangle -N KUBE-IPTABLES-HINT # and says so which iptables the node uses

unshare --mount --pid --fork --kill-child "$@" > /run/container.log 2>&1 &
pod=$!
for _ in $(seq 300); do
	answer=$(curl --silent --max-time 5 http://10.96.0.1:443/)
	[ -n "$answer" ] && break
	kill -0 $pod 2> /dev/null || break
	sleep 0.2
done
echo "service: $answer"
echo "probe: $(curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' "$PROBE")"
echo "conntrack: $(cat /proc/sys/net/ipv4/vs/conntrack)"
echo "metrics of tracked connections: $(curl --silent --max-time 5 http://127.0.0.1:10249/metrics | grep --count ^kube_ipvs_conntrack_entries)"
ipvsadm --list --numeric
cat /run/container.log
