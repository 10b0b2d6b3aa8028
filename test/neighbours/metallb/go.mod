// What is here is built inside a copy of MetalLB, whose announcer is for itself alone (build). The module keeps it out of
// the product's.
module kube-ipvs/test/neighbours/metallb

go 1.26.0
