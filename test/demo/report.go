package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// width is how wide the demo's text is, in characters.
const width = 108

// A printer prints the demo as plain text. What it cannot write is lost: there is nobody else to tell.
type printer struct{ io.Writer }

func (p printer) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// paragraph prints words in lines of the demo's width, each with that indentation.
func (p printer) paragraph(indent, text string) {
	line := indent
	for _, word := range strings.Fields(text) {
		if line != indent && len(line)+1+len(word) > width {
			p.line("%s", line)
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	p.line("%s", line)
}

// introduce says what is to be seen.
func (p printer) introduce(command string) {
	p.paragraph("", `A Service of Kubernetes is an address that stands for some pods. kube-ipvs runs on every node and makes
		such addresses work, by filling the load balancer that Linux has in its kernel, IPVS. This demo runs the real program
		in a real kernel; the hosts are network namespaces:`)
	p.line(`
  client --------- router --+-- node1 192.168.77.11 --- pods echo-1 10.244.1.11, echo-2 10.244.1.12,
  198.51.100.2  (outside)   |                                asker 10.244.1.13, which only asks
                            +-- node2 192.168.77.12 --- pod  echo-3 10.244.2.11
`)
	p.paragraph("", `The echo pods listen on port 8080 and answer with their name and the source address that they saw. kube-ipvs
		runs on node1; it reads Services from a folder of manifests instead of from a cluster, and watches that folder,
		which is called FOLDER below:`)
	p.line("")
	p.paragraph("    ", command)
	p.line("")
	p.paragraph("", `In what "ipvsadm -Ln" prints, a line that begins with TCP or UDP is a virtual server: an address that is asked.
		The lines with an arrow below it are its real servers: the pods that answer. In the tables of requests, "asker 6x
		10.96.10.1:6711" means that asker asked that address six times. What is expected is who answers, each of them at
		least once, and whose address they see as the source: the asker's own, or node1's, which is called masquerading.`)
}

// headline begins a part.
func (p printer) headline(title string) {
	p.line("\n--- %s %s", title, strings.Repeat("-", max(0, width-len(title)-5)))
}

// manifest prints what matters of a manifest that is put into the folder.
func (p printer) manifest(name string, lines []string) {
	p.command("cp " + name + " FOLDER")
	for _, l := range lines {
		p.line("    %s", l)
	}
}

// edit prints a change of a manifest.
func (p printer) edit(e edit) {
	p.command("edit FOLDER/" + e.file)
	for _, part := range []struct{ sign, text string }{{"-", e.old}, {"+", e.new}} {
		for l := range strings.Lines(part.text) {
			p.line("    %s %s", part.sign, strings.TrimRight(l, "\n"))
		}
	}
}

// command prints a command line.
func (p printer) command(text string) { p.line("  $ %s", text) }

// listing prints what ipvsadm shows of the scene's virtual servers.
func (p printer) listing(lines []string, right bool, after time.Duration) {
	note := fmt.Sprintf("WRONG, still after %v", settling)
	if right {
		note = fmt.Sprintf("right, after %.1f s", after.Seconds())
	}
	p.line("  $ ipvsadm -Ln    # %s", note)
	for _, l := range lines {
		p.line("    %s", l)
	}
}

// rows prints a table of requests, and what is wrong about them.
func (p printer) rows(rows []row, complaints []string) {
	p.line("")
	t := tabwriter.NewWriter(p, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  asked\tanswered by\tsource that they saw\texpected\t")
	for _, r := range rows {
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\n", r.asked, r.who, r.source, r.want, r.verdict)
	}
	t.Flush()
	for _, c := range complaints {
		p.line("  WRONG: %s", c)
	}
}

// check prints a command and what came of it.
func (p printer) check(c check, got string) {
	note := verdict(got == c.want)
	if got != c.want {
		note += ", must be " + c.want
	}
	p.line("  $ %-64s %-8s %s", c.command, got, note)
}

// conclude prints the summary and says whether everything is right.
func (p printer) conclude(results []result, before counts, held state) bool {
	p.headline("Summary")
	t := tabwriter.NewWriter(p, 0, 0, 2, ' ', 0)
	requests, wrong := 0, 0
	for i, r := range results {
		requests += r.requests
		if r.wrong > 0 {
			wrong++
		}
		fmt.Fprintf(t, "  %2d. %s\t%d requests\t%s\n", i+1, r.title, r.requests, verdict(r.wrong == 0))
	}
	t.Flush()
	constant := before == held.rules
	p.line("\n  iptables rules, IPv4 and IPv6: %v without any Service, %v with all of them: %s", before, held.rules, verdict(constant))
	p.paragraph("  ", "Sets and their entries with all Services (ipset list -t; those without any are left out): "+strings.Join(held.sets, ", "))
	p.line("  Routing rules with all Services (ip rule):")
	for _, l := range held.ipRules {
		p.line("    %s", strings.ReplaceAll(l, "\t", " "))
	}
	p.line("")
	switch {
	case wrong > 0:
		p.line("%d of %d cases are WRONG.", wrong, len(results))
	case !constant:
		p.line("All cases are right, but it is WRONG that the number of rules depends on Services.")
	default:
		p.line("All %d cases are right, in %d requests.", len(results), requests)
	}
	return wrong == 0 && constant
}
