package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

// ReadObjects returns the objects of a YAML file, of as many documents as it has. A key that is there twice is an error.
func ReadObjects(path string) ([]*unstructured.Unstructured, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		object := new(unstructured.Unstructured)
		if err := yaml.UnmarshalStrict(document, &object.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if object.Object != nil { // comments alone are no object
			objects = append(objects, object)
		}
	}
}

// Apply makes the objects what they say, as "kubectl apply --server-side" with strict validation does: an unknown field
// is an error. One object that is refused stops no other; the errors are joined.
func (c *Cluster) Apply(ctx context.Context, objects []*unstructured.Unstructured) error {
	return c.apply(ctx, objects, metav1.PatchOptions{})
}

// DryRun is Apply without its effect: the API server does everything but store the objects.
func (c *Cluster) DryRun(ctx context.Context, objects []*unstructured.Unstructured) error {
	return c.apply(ctx, objects, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
}

func (c *Cluster) apply(ctx context.Context, objects []*unstructured.Unstructured, options metav1.PatchOptions) error {
	options.FieldManager, options.FieldValidation = "test", metav1.FieldValidationStrict
	find, err := c.finder()
	if err != nil {
		return err
	}
	var errs []error
	for _, object := range objects {
		if err := applyOne(ctx, find, object, options); err != nil {
			errs = append(errs, fmt.Errorf("apply %s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), err))
		}
	}
	return errors.Join(errs...)
}

// A finder returns where the API server keeps objects like this one.
type finder func(*unstructured.Unstructured) (dynamic.ResourceInterface, error)

func (c *Cluster) finder() (finder, error) {
	admin, err := c.Admin()
	if err != nil {
		return nil, err
	}
	typed, err := admin.Client()
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(admin.Config())
	if err != nil {
		return nil, err
	}
	groups, err := restmapper.GetAPIGroupResources(typed.Discovery())
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	return func(object *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return nil, err
		}
		return client.Resource(mapping.Resource).Namespace(object.GetNamespace()), nil
	}, nil
}

func applyOne(ctx context.Context, find finder, object *unstructured.Unstructured, options metav1.PatchOptions) error {
	resource, err := find(object)
	if err != nil {
		return err
	}
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	_, err = resource.Patch(ctx, object.GetName(), types.ApplyPatchType, body, options)
	return err
}
