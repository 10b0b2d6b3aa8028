package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/munnerz/goautoneg"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// A zpage is a page on which components of Kubernetes describe themselves (KEPs 4827 and 4828): text for people, and an
// object for programs that ask for it by group, version and kind.
type zpage struct {
	kind   string
	text   func(io.Writer)
	object func(metav1.TypeMeta, metav1.ObjectMeta) any
}

// zgroup is the API group of the objects.
const zgroup = "config.k8s.io"

// zversions are the versions of the objects, which are alike, with the deprecated one.
var zversions = map[string]struct{ deprecated bool }{"v1alpha1": {true}, "v1beta1": {false}}

// The media types of a page, in the order in which a wildcard chooses.
const (
	mediaJSON = "application/json"
	mediaYAML = "application/yaml"
	mediaText = "text/plain"
)

var zmedia = []string{mediaJSON, mediaYAML, mediaText}

// ServeHTTP implements http.Handler.
func (z zpage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	media, version := z.negotiate(r.Header.Get("Accept"))
	switch media {
	case "":
		notAcceptable(w)
		return
	case mediaText:
		w.Header().Set("Content-Type", mediaText+"; charset=utf-8")
		fmt.Fprintf(w, "\nkube-ipvs %s\nFor people who debug: programs ask for application/json;g=%s;v=v1beta1;as=%s\n\n", strings.ToLower(z.kind), zgroup, z.kind)
		z.text(w)
		return
	}
	object := z.object(
		metav1.TypeMeta{Kind: z.kind, APIVersion: schema.GroupVersion{Group: zgroup, Version: version}.String()},
		metav1.ObjectMeta{Name: "kube-ipvs"},
	)
	encode := json.Marshal
	if media == mediaYAML {
		encode = func(v any) ([]byte, error) { return yaml.Marshal(v) }
	}
	text, err := encode(object)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if zversions[version].deprecated {
		w.Header().Set("Warning", fmt.Sprintf(`299 - "%s of %s is deprecated: ask for v1beta1"`, version, z.kind))
	}
	w.Header().Set("Content-Type", fmt.Sprintf("%s;g=%s;v=%s;as=%s", media, zgroup, version, z.kind))
	fmt.Fprintf(w, "%s\n", strings.TrimSuffix(string(text), "\n"))
}

// negotiate returns the media type that a header Accept prefers, and the version of an object; "": there is none.
func (z zpage) negotiate(accept string) (media, version string) {
	if strings.TrimSpace(accept) == "" {
		return mediaText, ""
	}
	for _, clause := range goautoneg.ParseAccept(accept) {
		for _, media := range zmedia {
			kind, subtype, _ := strings.Cut(media, "/")
			if clause.Type != kind && clause.Type != "*" || clause.SubType != subtype && clause.SubType != "*" {
				continue
			}
			as, group, version := clause.Params["as"], clause.Params["g"], clause.Params["v"]
			if media == mediaText {
				if as == "" && group == "" && version == "" {
					return mediaText, ""
				}
				continue
			}
			if _, known := zversions[version]; known && as == z.kind && group == zgroup {
				return media, version
			}
		}
	}
	return "", ""
}

// notAcceptable answers a request for media that a page lacks, in the way of an API server.
func notAcceptable(w http.ResponseWriter) {
	text, err := json.Marshal(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join(zmedia, ", "), Code: http.StatusNotAcceptable,
	})
	if err != nil {
		panic(err) // of constants
	}
	w.Header().Set("Content-Type", mediaJSON)
	w.WriteHeader(http.StatusNotAcceptable)
	_, _ = w.Write(append(text, '\n')) // fails only if the client went away
}

// A flagz is the object of /flagz.
type flagz struct {
	metav1.TypeMeta
	metav1.ObjectMeta `json:"metadata"`
	Flags             map[string]string `json:"flags,omitempty"`
}

// flagzPage returns the page with the values of all flags.
func flagzPage(flags map[string]string) zpage {
	return zpage{
		kind: "Flagz",
		text: func(w io.Writer) {
			for _, name := range slices.Sorted(maps.Keys(flags)) {
				fmt.Fprintf(w, "%s=%s\n", name, flags[name])
			}
		},
		object: func(t metav1.TypeMeta, m metav1.ObjectMeta) any { return flagz{t, m, flags} },
	}
}

// A statusz is the object of /statusz.
type statusz struct {
	metav1.TypeMeta
	metav1.ObjectMeta `json:"metadata"`
	StartTime         metav1.Time `json:"startTime"`
	UptimeSeconds     int64       `json:"uptimeSeconds"`
	GoVersion         string      `json:"goVersion"`
	BinaryVersion     string      `json:"binaryVersion"`
	Paths             []string    `json:"paths"`
}

// statuszPage returns the page with the version and the other pages of a process.
func statuszPage(started time.Time, goVersion, version string, paths []string) zpage {
	return zpage{
		kind: "Statusz",
		text: func(w io.Writer) {
			up := int64(time.Since(started).Seconds())
			fmt.Fprintf(w, "Started: %s\nUp: %d hr %02d min %02d sec\nGo version: %s\nBinary version: %s\nPaths: %s\n",
				started.Format(time.UnixDate), up/3600, up/60%60, up%60, goVersion, version, strings.Join(paths, " "))
		},
		object: func(t metav1.TypeMeta, m metav1.ObjectMeta) any {
			return statusz{t, m, metav1.NewTime(started), int64(time.Since(started).Seconds()), goVersion, version, paths}
		},
	}
}
