package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lingering is how long a grandchild that still holds the program's outputs may go on writing after the program's end.
const lingering = time.Second

// output is the way of one of the program's two outputs out of the kernel.
type output struct {
	program *os.File   // the program's end
	line    *os.File   // the serial line behind it, or nil if the program's end leads out by itself
	copied  chan error // the end of copying from the program to the line
}

type outputs [2]output

// openOutputs opens both ways: in a kernel of its own over serial lines, on the host through the descriptors that we were given.
func (j job) openOutputs() (outputs, error) {
	var out outputs
	for i := range out {
		if j.Machine == nil {
			out[i] = output{program: os.NewFile(uintptr(3+i), "output")}
			continue
		}
		o, err := openLine(fmt.Sprintf("/dev/ttyS%d", i))
		if err != nil {
			return out, err
		}
		out[i] = o
	}
	return out, nil
}

// openLine opens a serial line that passes every byte as it is, behind a pipe: the program is not on a terminal.
func openLine(path string) (output, error) {
	line, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return output{}, err
	}
	if err := makeRaw(line); err != nil {
		return output{}, errors.Join(fmt.Errorf("%s: %w", path, err), line.Close())
	}
	r, w, err := os.Pipe()
	if err != nil {
		return output{}, errors.Join(err, line.Close())
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(line, r)
		copied <- err
	}()
	return output{program: w, line: line, copied: copied}, nil
}

func makeRaw(line *os.File) error {
	fd := int(line.Fd())
	term, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	term.Oflag &^= unix.OPOST
	return unix.IoctlSetTermios(fd, unix.TCSETS, term)
}

// close returns when everything that the program wrote has left the kernel.
func (out outputs) close() error {
	return errors.Join(out[0].close(), out[1].close())
}

func (o output) close() error {
	err := o.program.Close()
	if o.line == nil {
		return err
	}
	select {
	case e := <-o.copied:
		err = errors.Join(err, e)
	case <-time.After(lingering):
	}
	return errors.Join(err, unix.IoctlSetInt(int(o.line.Fd()), unix.TCSBRK, 1)) // tcdrain(3)
}
