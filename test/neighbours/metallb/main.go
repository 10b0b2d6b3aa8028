// Command announcer announces addresses in layer 2 with the part of MetalLB's speaker that does so, until it is told to stop. The
// speaker itself needs an API server that has MetalLB's own kinds.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-kit/log"
	"k8s.io/apimachinery/pkg/util/sets"

	"go.universe.tf/metallb/internal/layer2"
)

// version is the linker's to say.
var version string

func main() {
	if len(os.Args) == 2 && os.Args[1] == "-version" {
		fmt.Println("go.universe.tf/metallb", version)
		return
	}
	announcer, err := layer2.New(log.NewLogfmtLogger(os.Stdout), nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for len(announcer.GetInterfaces()) == 0 { // an address that comes before the links is not watched for
		time.Sleep(10 * time.Millisecond)
	}
	for _, address := range os.Args[1:] {
		announcer.SetBalancer(address, layer2.NewIPAdvertisement(net.ParseIP(address), true, sets.New[string]()))
	}
	fmt.Println("announces")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	for _, address := range os.Args[1:] {
		announcer.DeleteBalancer(address)
	}
}
