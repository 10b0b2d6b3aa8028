package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// A Part is another process of this program, started with -part NAME, that does a part of a measurement. It answers each line of its
// input with a value in JSON, and ends with its input.
type Part struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
}

// StartPart starts a part, with attributes and more arguments.
func StartPart(ctx context.Context, name string, attr *syscall.SysProcAttr, args ...string) (*Part, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &Part{name: name, cmd: exec.CommandContext(ctx, self, append([]string{"-part", name}, args...)...)}
	p.cmd.Stderr, p.cmd.SysProcAttr = os.Stderr, attr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(out)
	return p, p.cmd.Start()
}

// Ask sends a line and reads the answer.
func (p *Part) Ask(line string, answer any) error {
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		return fmt.Errorf("ask %s to %s: %w", p.name, line, err)
	}
	if err := p.Read(answer); err != nil {
		return fmt.Errorf("ask %s to %s: %w", p.name, line, err)
	}
	return nil
}

// Read reads an answer that was not asked for.
func (p *Part) Read(answer any) error { return p.out.Decode(answer) }

// Kill ends the part without its help; End is needed all the same.
func (p *Part) Kill() { _ = p.cmd.Process.Kill() } // it may have ended

// End ends the part's input, and waits for its end.
func (p *Part) End() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }
