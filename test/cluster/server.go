package cluster

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// etcdSocket is where etcd listens: a Unix socket in the folder in which both servers run. That takes no port and lets
// nobody else in. The port number is a part of the file's name that etcd insists on.
const (
	etcdSocket  = "unix://etcd:0"
	peersSocket = "unix://peers:0"
)

// dataDir is where etcd keeps what is stored.
const dataDir = "data"

func etcdFlags() []string {
	return []string{
		"--data-dir=" + dataDir,
		"--unsafe-no-fsync", // the data need not outlive the machine
		"--listen-client-urls=" + etcdSocket,
		"--advertise-client-urls=" + etcdSocket,
		"--listen-peer-urls=" + peersSocket,
		"--initial-advertise-peer-urls=" + peersSocket,
		"--initial-cluster=default=" + peersSocket,
	}
}

// The names of the files that hold the API server's keys.
const (
	authorityFile   = "ca.crt"
	certificateFile = "server.crt"
	keyFile         = "server.key"
	tokenKeyFile    = "tokens.key" // signs the tokens of service accounts
)

func (c *Cluster) serverFlags() []string {
	const issuer = "https://kubernetes.default.svc"
	flags := []string{
		"--etcd-servers=" + etcdSocket,
		"--bind-address=" + c.port.host,
		"--secure-port=" + c.port.number,
		"--permit-port-sharing", // with the socket that reserves the port
		"--service-cluster-ip-range=" + ServiceCIDR4 + "," + ServiceCIDR6,
		"--authorization-mode=RBAC",
		"--client-ca-file=" + authorityFile,
		"--tls-cert-file=" + certificateFile,
		"--tls-private-key-file=" + keyFile,
		"--service-account-issuer=" + issuer,
		"--service-account-key-file=" + tokenKeyFile,
		"--service-account-signing-key-file=" + tokenKeyFile,
	}
	if c.pods {
		flags = append(flags, "--allow-privileged", "--kubelet-preferred-address-types=InternalIP")
	} else {
		// The plugin gives each pod a service account and refuses pods without one; a controller that does not run
		// here would make the accounts.
		flags = append(flags, "--disable-admission-plugins=ServiceAccount")
	}
	if c.namespace == nil {
		// A loopback address is not allowed as an endpoint of the Service default/kubernetes.
		return append(flags, "--endpoint-reconciler-type=none")
	}
	return flags
}

// A port is where the API server listens.
type port struct {
	host, number string
	reservation  *os.File // a socket that is bound to it; nil if nobody else can take it
}

// reservePort reserves a free port of 127.0.0.1 for this process's user. The socket does not listen, so it gets no
// connections, and keeps the port from being given to somebody else (socket(7), SO_REUSEPORT).
func reservePort() (port, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return port{}, os.NewSyscallError("socket", err)
	}
	p := port{host: "127.0.0.1", reservation: os.NewFile(uintptr(fd), "port of the API server")}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return p, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return p, os.NewSyscallError("bind", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return p, os.NewSyscallError("getsockname", err)
	}
	p.number = strconv.Itoa(name.(*unix.SockaddrInet4).Port)
	return p, nil
}

func (p port) release() error {
	if p.reservation == nil {
		return nil
	}
	return p.reservation.Close()
}
