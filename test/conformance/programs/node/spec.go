package main

import (
	"bytes"
	"fmt"
	"kube-ipvs/test/conformance/programs/spec"
	"path/filepath"
)

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func (c *container) env() []string {
	env := []string{searchPath, "HOME=/root"}
	if h := c.sandbox.config.GetHostname(); h != "" {
		env = append(env, "HOSTNAME="+h)
	}
	for _, e := range c.config.Envs {
		env = append(env, e.Key+"="+string(e.Value))
	}
	return env
}

// describe returns what podinit has to know of the container.
func (p *processes) describe(c *container) spec.Spec {
	e, _ := entryOf(c.image) // CreateContainer has looked
	args := append([]string(nil), c.config.Command...)
	if len(args) == 0 {
		args = append(args, e.entrypoint...)
		if len(c.config.Args) == 0 {
			args = append(args, e.command...)
		}
	}
	args = append(args, c.config.Args...)
	s := spec.Spec{
		Root: c.root, Hostname: c.sandbox.config.Hostname, Files: map[string]string{}, Env: c.env(), Dir: c.config.WorkingDir, Args: args,
	}
	if s.Hostname == "" {
		s.Hostname = p.node // with hostNetwork
	}
	if d := c.sandbox.config.DnsConfig; d != nil {
		var b bytes.Buffer
		for _, a := range d.Servers {
			fmt.Fprintf(&b, "nameserver %s\n", a)
		}
		if len(d.Searches) > 0 {
			fmt.Fprint(&b, "search")
			for _, a := range d.Searches {
				fmt.Fprintf(&b, " %s", a)
			}
			fmt.Fprintln(&b)
		}
		if len(d.Options) > 0 {
			fmt.Fprint(&b, "options")
			for _, a := range d.Options {
				fmt.Fprintf(&b, " %s", a)
			}
			fmt.Fprintln(&b)
		}
		s.Files["etc/resolv.conf"] = b.String()
	}
	s.Files["etc/wgetrc"] = "tries = 1\n" // the images have BusyBox's wget, which gives up at once, where GNU's tries 20 times
	s.Files["etc/hostname"] = s.Hostname + "\n"
	s.Files["etc/hosts"] = "127.0.0.1 localhost\n"
	s.Mounts = []spec.Mount{
		{From: p.tls.CertFile, To: "/localhost.crt", ReadOnly: true}, {From: p.tls.KeyFile, To: "/localhost.key", ReadOnly: true},
	}
	for path, program := range inImages {
		s.Mounts = append(s.Mounts, spec.Mount{From: filepath.Join(p.programs, program), To: path, ReadOnly: true})
	}
	for _, m := range c.config.Mounts {
		s.Mounts = append(s.Mounts, spec.Mount{From: m.HostPath, To: m.ContainerPath, ReadOnly: m.Readonly})
	}
	sc := c.config.GetLinux().GetSecurityContext()
	s.UID, s.GID = int(sc.GetRunAsUser().GetValue()), int(sc.GetRunAsGroup().GetValue())
	for _, g := range sc.GetSupplementalGroups() {
		s.Groups = append(s.Groups, int(g))
	}
	return s
}
