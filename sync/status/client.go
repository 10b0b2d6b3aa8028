package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
)

// A Client asks a Server.
type Client struct {
	silent string // the words for nobody's answer
	client *http.Client
}

// NewClient returns a client of the socket at a path.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	// A connection that stays open would count against the server's limit.
	return NewClientOver(&http.Transport{DialContext: dial, DisableKeepAlives: true}, fmt.Sprintf("no kube-ipvs answers at %s (--socket)", socket))
}

// NewClientOver returns a client over a transport. An error that it returns begins with the words for one that does not answer.
func NewClientOver(transport http.RoundTripper, silent string) *Client {
	return &Client{silent: silent, client: &http.Client{Transport: transport}}
}

// Get asks for a resource: services as List[Service], and so on.
func Get[T any](ctx context.Context, c *Client, resource string, q Query) (List[T], error) {
	var out List[T]
	response, err := c.Raw(ctx, "/v1alpha1/"+resource+"?"+q.Values().Encode())
	if err != nil {
		return out, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var failed Status
		if err := json.NewDecoder(response.Body).Decode(&failed); err != nil || failed.Message == "" {
			return out, errors.New(response.Status)
		}
		return out, failure(failed)
	}
	return out, json.NewDecoder(response.Body).Decode(&out)
}

// ErrNotFound matches the error of a question about a Service that does not exist.
var ErrNotFound = errors.New("not found")

// A failure is an answer that is one.
type failure Status

// Error implements error.
func (f failure) Error() string { return f.Message }

// Is reports whether the failure is ErrNotFound.
func (f failure) Is(target error) bool { return target == ErrNotFound && f.Code == http.StatusNotFound }

// Raw sends a request for a path with its parameters, and returns the response as it comes.
func (c *Client) Raw(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://kube-ipvs"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.silent, errors.Unwrap(err))
	}
	return response, nil
}

// GetAll asks for all pages of a resource.
func GetAll[T any](ctx context.Context, c *Client, resource string, q Query) (List[T], error) {
	all, err := Get[T](ctx, c, resource, q)
	for err == nil && all.Continue != "" {
		q.Continue = all.Continue
		var page List[T]
		page, err = Get[T](ctx, c, resource, q)
		all.Items, all.Continue = append(all.Items, page.Items...), page.Continue
	}
	return all, err
}
