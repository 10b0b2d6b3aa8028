package manifest

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"

	"kube-ipvs/sync/plan"
)

// A decoder decodes documents strictly: an unknown or repeated field is an error.
type decoder struct{ runtime.Decoder }

// An ignored is a document of a kind that the proxy does not use.
type ignored struct {
	kind  schema.GroupVersionKind
	where string
}

func newDecoder() decoder {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Service{}, &corev1.Node{}, &corev1.List{})
	scheme.AddKnownTypes(discoveryv1.SchemeGroupVersion, &discoveryv1.EndpointSlice{})
	scheme.AddKnownTypes(networkingv1.SchemeGroupVersion, &networkingv1.ServiceCIDR{})
	options := json.SerializerOptions{Yaml: true, Strict: true}
	return decoder{json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, options)}
}

// parse returns the content of a file.
func (d decoder) parse(name string, content []byte) *file {
	f := new(file)
	n := 0
	for doc, err := range documents(name, content) {
		n++
		where := fmt.Sprintf("%s: document %d", name, n)
		if err != nil {
			f.unusable(where, ".", err.Error())
			continue
		}
		d.document(f, where, doc)
	}
	return f
}

// unusable reports an error in a document.
func (f *file) unusable(where, field, reason string) {
	f.broken = true
	f.problems = append(f.problems, plan.Problem{Object: where, Field: field, Reason: reason})
}

// document adds the objects of a document to the file.
func (d decoder) document(f *file, where string, doc []byte) {
	obj := d.decode(f, where, doc)
	list, ok := obj.(*corev1.List)
	if !ok {
		f.add(where, obj)
		return
	}
	for i, item := range list.Items {
		where := fmt.Sprintf("%s, item %d", where, i+1)
		switch obj := d.decode(f, where, item.Raw).(type) {
		case *corev1.List:
			f.unusable(where, "kind", "a List in a List is not read")
		default:
			f.add(where, obj)
		}
	}
}

// decode returns the object in a document, or nil if there is none of a known kind.
func (d decoder) decode(f *file, where string, doc []byte) runtime.Object {
	obj, gvk, err := d.Decode(doc, nil, nil)
	switch {
	case err == nil:
		return obj
	case runtime.IsNotRegisteredError(err) && gvk != nil:
		f.ignored = append(f.ignored, ignored{*gvk, where})
	case runtime.IsStrictDecodingError(err):
		f.reportStrict(where, err)
	default:
		f.unusable(where, ".", err.Error())
	}
	return nil
}

// reportStrict reports each field that strict decoding rejects, such as `unknown field "spec.prots"`.
func (f *file) reportStrict(where string, err error) {
	strict, _ := runtime.AsStrictDecodingError(err)
	for _, e := range strict.Errors() {
		reason, quoted, _ := strings.Cut(e.Error(), ` "`)
		field, ok := strings.CutSuffix(quoted, `"`)
		if !ok || field == "" {
			reason, field = e.Error(), "."
		}
		f.unusable(where, field, reason)
	}
}
