package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
)

// A Client asks a Server at a local socket.
type Client struct {
	Socket string
	client *http.Client
}

// NewClient returns a client of the socket at a path.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	// A connection that stays open would count against the server's limit.
	return &Client{Socket: socket, client: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Get asks for a resource: services as List[Service], and so on.
func Get[T any](ctx context.Context, c *Client, resource string, q Query) (List[T], error) {
	var out List[T]
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://kube-ipvs/v1alpha1/"+resource+"?"+q.Values().Encode(), nil)
	if err != nil {
		return out, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return out, fmt.Errorf("no kube-ipvs answers at %s (--socket): %w", c.Socket, errors.Unwrap(err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var failed Status
		if err := json.NewDecoder(response.Body).Decode(&failed); err != nil || failed.Message == "" {
			return out, errors.New(response.Status)
		}
		return out, errors.New(failed.Message)
	}
	return out, json.NewDecoder(response.Body).Decode(&out)
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
