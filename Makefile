# Two commands are all that one needs: "make demo" and "make test". Both install what is missing.
.PHONY: demo test compare takeover minors bench instructions scale soak nft race kernels page neighbours conformance conformance-short conformance-programs \
    rolling release lint build unit kernel cluster packages clean

bin := $(CURDIR)/.bin
inkernel := $(bin)/inkernel -timeout 41m

demo: packages build
	@go build -o $(bin)/ ./test/demo
	@$(bin)/inkernel -timeout 5m $(bin)/demo -kube-ipvs $(bin)/kube-ipvs -manifests test/demo/manifests

# What cannot run is a failure: the kernel's and the API server's tests are told apart by build tags, not by skipping.
test: packages build lint unit kernel cluster

# What it costs, as ratios, in one boot of the test kernel: a table, and docs/bench.md.
bench: packages build
	@go build -o $(bin)/ ./test/bench
	@cd test/kubernetes && go build -o $(bin)/kube-proxy k8s.io/kubernetes/cmd/kube-proxy
	@$(bin)/inkernel -timeout 60m $(bin)/bench -docs docs

# What it costs a packet, and that nothing changes: instructions, counted in an emulated machine, beside kube-proxy. It needs root.
instructions: packages build
	@test/packages qemu-system-x86 qemu-system-common
	@test/linux $(bin)/linux
	@go build -o $(bin)/ ./test/bench
	@cd test/kubernetes && go build -o $(bin)/kube-proxy k8s.io/kubernetes/cmd/kube-proxy
	@$(bin)/inkernel -timeout 60m -kernel icount $(bin)/bench -page instructions -docs docs

# What a large cluster costs its API server and its nodes, reckoned from three sizes: docs/scale.md. No kernel is needed.
scale: packages
	@mkdir -p $(bin)
	@go build -o $(bin)/ ./test/scale
	@$(bin)/scale -docs docs

build:
	@mkdir -p $(bin)
	@go build -o $(bin)/ ./cmd/kube-ipvs ./test/inkernel

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	go vet ./...
	go vet -tags kernel,cluster,compare,soak,nft,neighbours ./...
	GOOS=darwin go vet ./cmd/kubectl-ipvs
	GOOS=windows go vet ./cmd/kubectl-ipvs
	go tool staticcheck -tags kernel,cluster,compare,soak,nft,neighbours ./...

unit:
	go test -race ./...
	cd test/charts && go vet ./... && go test -count 1 ./... # they read files of other modules, which no cache knows
	cd deploy/release && go vet ./... && go test -count 1 ./...

# Scenarios with fakes are the unit tests'.
kernel:
	go test -tags kernel -exec "$(inkernel)" -timeout 40m -p 2 -skip '^TestScenarios($$|Though)' ./test/packet ./test/kernel ./test/lab ./test/scenario ./test/survive

cluster:
	go test -tags cluster -timeout 30m -p 1 ./test/cluster/... ./test/deploy/... ./test/e2e/... ./test/plugin
	go test -tags cluster -timeout 10m -parallel 5 ./test/apiserver

# The API server's tests with older versions of Kubernetes, with and without lists by watch. Not a part of the test: each is built first.
# make minors minors=v1.36.3
minors ?= v1.34.4 v1.35.4 v1.36.3
minors: packages
	@cd test/etcd && go build -o $(bin)/etcd go.etcd.io/etcd/server/v3 # Debian's is too old for lists by watch
	@for version in $(minors); do \
	    test/kubernetes/minor $$version $(bin)/$$version && \
	    for list in true false; do \
	        ETCD=$(bin)/etcd KUBE_FEATURE_WatchListClient=$$list KUBE_APISERVER=$(bin)/$$version/kube-apiserver \
	            go test -count 1 -tags cluster -timeout 30m -parallel 5 -p 1 ./test/cluster ./test/apiserver ./test/plugin || exit 1; \
	    done; \
	done

# Not a part of the test: it is kube-proxy that is slow.
compare: packages build
	@cd test/kubernetes && go build -o $(bin)/ k8s.io/kubernetes/cmd/kube-proxy
	go test -v -tags compare -run TestCompare ./internal/config -kube-proxy $(bin)/kube-proxy
	go test -v -tags kernel,compare -run TestCompare -exec "$(inkernel)" -timeout 40m -p 1 ./test/kubeproxy ./test/packet

# Taking a node over from the real kube-proxy and handing it back, while clients talk. Not a part of the test: it takes ten minutes,
# and as long again for nftables mode, in the emulated machine, which needs root.
takeover: packages build
	@cd test/kubernetes && go build -o $(bin)/ k8s.io/kubernetes/cmd/kube-proxy
	go test -v -count 1 -tags kernel,compare -exec "$(inkernel)" -timeout 40m ./test/takeover -args -programs $(bin)
	@test/packages qemu-system-x86 qemu-system-common
	@test/linux $(bin)/linux
	go test -v -count 1 -tags kernel,compare,nft -exec "$(inkernel) -kernel qemu" -timeout 40m ./test/takeover \
	    -args -programs $(bin) -every 50ms

# Does anything grow, or go wrong once in ten thousand times? Not a part of "make test": what takes long shows it best.
# make soak for=3m
for ?= 10m
soak: packages build
	go test -count 1 -run TestHistories -timeout 0 ./sync/ipvsmode -args -histories 10000 -history $$(date +%s)
	go test -v -count 1 -tags kernel,soak -run TestSoak -exec "$(inkernel)" -timeout 40m ./test/survive -args -soak $(for)

# iptables on nft and two CPUs, which most nodes have and user-mode Linux has not: in an emulated machine, which is too slow to
# be a part of "make test". The demo, then a choice of tests, some 15 minutes in all. It needs root.
nft: packages build
	@test/packages qemu-system-x86 qemu-system-arm qemu-system-common
	@test/linux $(bin)/linux
	@test/linux $(bin)/linux-trixie-arm64 trixie arm64
	@go build -o $(bin)/ ./test/demo
	@$(inkernel) -kernel qemu $(bin)/demo -kube-ipvs $(bin)/kube-ipvs -manifests test/demo/manifests
	go test -v -count 1 -tags nft -run 'TestQEMU|TestArm64' ./test/inkernel
	go test -v -count 1 -tags kernel,nft -exec "$(inkernel) -kernel qemu" -timeout 40m -p 1 \
	    -run 'TestIptables|TestOtherHands$$|TestRestart|TestDrain|TestTruth|TestFirewallOfNftables' ./test/kernel ./test/packet

# Packets, scenarios and survival with Go's race detector, which does not run in user-mode Linux: in the emulated machine, where it takes
# long. It needs root.
race: packages build
	@test/packages qemu-system-x86 qemu-system-common
	@test/linux $(bin)/linux
	@go build -race -o $(bin)/race/ ./cmd/kube-ipvs
	go test -race -v -count 1 -tags kernel -exec "$(inkernel) -kernel qemu -mem 3G" -timeout 40m ./test/scenario -run TestScenariosInTheKernel
	go test -race -v -count 1 -tags kernel -exec "$(inkernel) -kernel qemu -mem 3G" -timeout 40m ./test/packet \
	    -run 'TestDrain|TestUDP|TestRestart|TestOtherHands$$|TestAffinity|TestNodePortsFollowAddresses'
	go test -race -v -count 1 -tags kernel -exec "$(inkernel) -kernel qemu -mem 3G" -timeout 40m ./test/survive \
	    -args -program $(bin)/race/kube-ipvs -kills 20

# A choice of tests on Linux 5.10, 6.1, 6.12 and the newest that Debian has, and on arm64, in the emulated machine: docs/kernels.md. It
# goes on where it was broken off. One cell of the table, anew: make kernels only=bullseye-nft-2-drains. It needs root.
kernels: packages build
	@test/packages qemu-system-x86 qemu-system-arm qemu-system-common
	@for arch in amd64 arm64; do \
	    GOARCH=$$arch go build -o $(bin)/$$arch/ ./test/inkernel && \
	    GOARCH=$$arch go test -c -trimpath -tags kernel -o $(bin)/$$arch/ ./test/packet || exit 1; \
	done
	@go build -o $(bin)/ ./test/kernels
	@$(bin)/kernels -bin $(bin) -docs docs -only '$(only)'

# The page for a browser in Chromium without a screen, some six minutes. The result is docs/page.md, with pictures.
page:
	@test/packages chromium
	@go build -o $(bin)/ ./test/page
	@cd test/page/browser && go vet ./... && go test -v -count 1 -timeout 20m . -args -page $(bin)/page -docs $(CURDIR)/docs

# Beside the programs that real nodes have: keepalived, ufw, CNI's portmap, WireGuard, NodeLocal DNSCache, Calico's Felix,
# MetalLB, and in the emulated machine firewalld, which needs root. The result is docs/neighbours.md.
neighbours: packages build
	@test/neighbours/packages
	@test/linux $(bin)/linux
	@cd test/neighbours/cni && go build -o $(bin)/ github.com/containernetworking/plugins/plugins/meta/portmap
	@cd test/neighbours/coredns && go build -o $(bin)/coredns .
	@cd test/neighbours/felix && CGO_ENABLED=0 go build -ldflags '-s -w' -o $(bin)/ \
	    github.com/projectcalico/calico/felix/cmd/calico-felix github.com/projectcalico/calico/calicoctl/calicoctl
	@test/neighbours/metallb/build $(bin)
	@rm -rf $(bin)/rows && mkdir $(bin)/rows
	@status=0; \
	go test -v -count 1 -tags kernel,neighbours -run 'TestNeighbours$$' -exec "$(inkernel) -mem 3G" -timeout 40m ./test/packet \
	    -args -bin $(bin) -rows $(bin)/rows || status=1; \
	go test -v -count 1 -tags kernel,neighbours -run 'TestNeighboursNFT$$' -exec "$(inkernel) -kernel qemu" -timeout 40m ./test/packet \
	    -args -bin $(bin) -rows $(bin)/rows || status=1; \
	cat test/neighbours/head.md $(bin)/rows/*.row >docs/neighbours.md; exit $$status

# Binaries, image, chart, manifests, SBOMs, kubectl's plugin and checksums in .bin/release, for home/releases/download/v1.2.3:
# make release version=v1.2.3 home=https://github.com/OWNER/kube-ipvs
# Without home there is no manifest by which krew finds the plugin.
release:
	cd deploy/release && go test -count 1 -tags release -run TestSameBytes -timeout 60m .
	rm -rf $(bin)/release
	cd deploy/release && go run . -version $(version) $(if $(home),-home $(home)) -out $(bin)/release -cache $(bin)/debs

# Kubernetes' own end-to-end tests of SIG Network, beside kube-proxy; the result is docs/conformance.md. It goes on where it was
# broken off. One test, anew, with one proxy: make conformance focus='serve multiport endpoints' proxies=divert
proxies ?= divert,bind,iptables
conformance: conformance-programs
	@$(bin)/conformance -proxies '$(proxies)' -focus '$(focus)' -docs docs

# A choice of some twenty tests that take three minutes with one proxy.
conformance-short: conformance-programs
	@$(bin)/conformance -proxies '$(proxies)' -short

# Replaces kube-proxy by kube-ipvs on one node of that cluster after the other, and back, while probers talk: ten minutes.
rolling: conformance-programs
	@$(bin)/conformance -rolling -docs docs

conformance-programs: build
	@test/packages curl dnsutils netcat-openbsd util-linux wget
	@go build -trimpath -buildvcs=false -o $(bin)/ ./cmd/kube-ipvs ./test/conformance
	@cd test/kubernetes && go build -o $(bin)/ k8s.io/kubernetes/cmd/kube-proxy
	@cd test/conformance/programs && go build -ldflags '-s -w' -o $(bin)/ ./node ./podinit ./agnhost \
	    k8s.io/kubernetes/cmd/kubectl k8s.io/kubernetes/test/images/regression-issue-74839
	@cd test/conformance/programs && go test -c -vet off -ldflags '-s -w' -o $(bin)/e2e.test ./suite
	@cd test/conformance/dns && go build -o $(bin)/ .

packages:
	@test/packages

clean:
	rm -rf $(bin)
