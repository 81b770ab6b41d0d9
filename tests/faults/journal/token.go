package journal

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// token answers a TokenRequest for a service account; parts are those of the path,
// which ends in namespaces/<namespace>/serviceaccounts/<account>/token.
func (j *Target) token(w http.ResponseWriter, r *http.Request, parts []string) {
	var body struct {
		Spec struct {
			Audiences []string `json:"audiences"`
			Seconds   int64    `json:"expirationSeconds"`
			Bound     struct {
				Name string `json:"name"`
			} `json:"boundObjectRef"`
		} `json:"spec"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(parts) < 4 {
		status(w, http.StatusBadRequest, "BadRequest")
		return
	}
	j.mu.Lock()
	_, tied := j.objects[body.Spec.Bound.Name]
	padding := j.padding
	j.mu.Unlock()
	if !tied {
		status(w, http.StatusNotFound, "NotFound")
		return
	}
	namespace, account, now := parts[len(parts)-4], parts[len(parts)-2], time.Now()
	text, err := json.Marshal(map[string]any{
		"sub": "system:serviceaccount:" + namespace + ":" + account, "aud": body.Spec.Audiences,
		"iat": now.Unix(), "exp": now.Unix() + body.Spec.Seconds,
		"kubernetes.io": map[string]any{
			"namespace": namespace, "serviceaccount": map[string]string{"name": account},
			"secret": map[string]string{"name": body.Spec.Bound.Name},
		},
		"padding": strings.Repeat("x", padding),
	})
	if err != nil {
		status(w, http.StatusInternalServerError, "InternalError")
		return
	}
	encode := base64.RawURLEncoding.EncodeToString
	write(w, http.StatusCreated, map[string]any{
		"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": map[string]any{"audiences": body.Spec.Audiences},
		"status": map[string]any{
			"token":               encode([]byte(`{"alg":"none"}`)) + "." + encode(text) + "." + encode([]byte("signature")),
			"expirationTimestamp": now.Add(time.Duration(body.Spec.Seconds) * time.Second).UTC().Format(time.RFC3339),
		},
	})
}
