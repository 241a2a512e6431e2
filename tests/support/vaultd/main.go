// Vault's own PKI, AppRole, certificate and Kubernetes backends behind a small HTTPS server on loopback, for tests.
//
// The backends are those of github.com/hashicorp/vault as they are. Tokens, policies, response wrapping, namespaces and
// the seal are this file's: as much of them as an enroller meets. Everything is in memory.
//
//	vaultd CONFIG.json      {"address", "chain", "key", "root_token", "mounts": {"pki/": "pki", "auth/approle/": "approle"}}
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	"github.com/hashicorp/vault/builtin/logical/pki"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

const maxBody = 1 << 20

var factories = map[string]logical.Factory{
	"pki": pki.Factory, "approle": approle.Factory, "cert": cert.Factory, "kubernetes": kubernetes.Factory,
}

type config struct {
	Address   string            `json:"address"`
	Chain     string            `json:"chain"`
	Key       string            `json:"key"`
	RootToken string            `json:"root_token"`
	Mounts    map[string]string `json:"mounts"`
}

type mount struct {
	prefix  string
	kind    string
	backend logical.Backend
	storage logical.Storage
}

type token struct {
	id        string
	policies  []string
	ends      time.Time // zero: never
	ttl       time.Duration
	max       time.Time
	renewable bool
	uses      int // 0: without end
}

type wrapped struct {
	body []byte
	ends time.Time
}

type server struct {
	sync.Mutex
	mounts   []*mount
	tokens   map[string]*token
	wrapped  map[string]wrapped
	policies map[string][]string // name: path prefixes that may be used
	status   int                 // what /sys/health says; anything but 200 is said to every request
	retry    string              // Retry-After of that
}

func main() {
	raw, err := os.ReadFile(os.Args[1])
	check(err)
	var c config
	check(json.Unmarshal(raw, &c))
	s := &server{tokens: map[string]*token{}, wrapped: map[string]wrapped{}, policies: map[string][]string{}, status: 200}
	s.tokens[c.RootToken] = &token{id: c.RootToken, policies: []string{"root"}}
	for prefix, kind := range c.Mounts {
		s.mount(prefix, kind)
	}
	sort.Slice(s.mounts, func(i, j int) bool { return len(s.mounts[i].prefix) > len(s.mounts[j].prefix) })
	pair, err := tls.LoadX509KeyPair(c.Chain, c.Key)
	check(err)
	listener, err := net.Listen("tcp", c.Address)
	check(err)
	secured := tls.NewListener(listener, &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert,
		NextProtos: []string{"http/1.1"},
	})
	check(http.Serve(secured, s))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func random(prefix string) string {
	octets := make([]byte, 16)
	_, err := rand.Read(octets)
	check(err)
	return prefix + hex.EncodeToString(octets)
}

func (s *server) mount(prefix, kind string) {
	storage := &logical.InmemStorage{}
	backend, err := factories[kind](context.Background(), &logical.BackendConfig{
		Logger:      hclog.NewNullLogger(),
		StorageView: storage,
		BackendUUID: random(""),
		System: &logical.StaticSystemView{
			DefaultLeaseTTLVal: 24 * time.Hour, MaxLeaseTTLVal: 10 * 365 * 24 * time.Hour,
			ReplicationStateVal: consts.ReplicationUnknown, VersionString: "1.21.4",
		},
		Config: map[string]string{},
	})
	check(err)
	check(backend.Initialize(context.Background(), &logical.InitializationRequest{Storage: storage}))
	s.mounts = append(s.mounts, &mount{prefix: prefix, kind: kind, backend: backend, storage: storage})
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	namespace := strings.Trim(r.Header.Get("X-Vault-Namespace"), "/")
	s.Lock()
	status, retry := s.status, s.retry
	s.Unlock()
	fmt.Printf("%s %s namespace=%q request=%q\n", r.Method, path, namespace, r.Header.Get("X-Vault-Request"))
	data := map[string]any{}
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		if err != nil || (len(raw) > 0 && json.Unmarshal(raw, &data) != nil) {
			fail(w, 400, "failed to parse JSON input")
			return
		}
	}
	if path == "test/control" && r.Header.Get("X-Vault-Token") != "" {
		s.control(w, r, data)
		return
	}
	if path == "sys/health" {
		answer(w, status, map[string]any{"initialized": true, "sealed": status == 503, "standby": status == 429 || status == 473,
			"version": "1.21.4", "server_time_utc": time.Now().Unix()})
		return
	}
	if status != 200 {
		if retry != "" {
			w.Header().Set("Retry-After", retry)
		}
		text := map[int]string{503: "Vault is sealed", 412: "required index state not present", 429: "request path \"pki\": rate limit quota exceeded"}[status]
		fail(w, status, text)
		return
	}
	if namespace != "" {
		path = namespace + "/" + path
	}
	if r.Method == http.MethodGet && r.URL.Query().Get("list") == "true" {
		r.Method, path = "LIST", strings.TrimSuffix(path, "/")+"/"
	}
	s.dispatch(w, r, path, data)
}

// control changes what the server says: its status, its policies, and when a token ends.
func (s *server) control(w http.ResponseWriter, r *http.Request, data map[string]any) {
	s.Lock()
	defer s.Unlock()
	held, ok := s.tokens[r.Header.Get("X-Vault-Token")]
	if !ok || held.policies[0] != "root" {
		fail(w, 403, "permission denied")
		return
	}
	if status, ok := data["status"].(float64); ok {
		s.status = int(status)
		s.retry, _ = data["retry_after"].(string)
	}
	if policies, ok := data["policies"].(map[string]any); ok {
		for name, paths := range policies {
			s.policies[name] = nil
			for _, one := range paths.([]any) {
				s.policies[name] = append(s.policies[name], one.(string))
			}
		}
	}
	if data["forget_tokens"] == true {
		for id, one := range s.tokens {
			if one.policies[0] != "root" {
				delete(s.tokens, id)
			}
		}
	}
	answer(w, 200, map[string]any{"tokens": len(s.tokens)})
}

func (s *server) dispatch(w http.ResponseWriter, r *http.Request, path string, data map[string]any) {
	if strings.HasSuffix(path, "sys/wrapping/unwrap") {
		s.unwrap(w, r, data)
		return
	}
	id := r.Header.Get("X-Vault-Token")
	s.Lock()
	held := s.tokens[id]
	if held != nil && !held.ends.IsZero() && time.Now().After(held.ends) {
		delete(s.tokens, id)
		held = nil
	}
	s.Unlock()
	if at := strings.Index("/"+path, "/auth/token/"); at >= 0 {
		s.tokenPath(w, r, held, path[at+len("auth/token/"):], data)
		return
	}
	for _, m := range s.mounts {
		if strings.HasPrefix(path, m.prefix) {
			s.backendPath(w, r, m, held, strings.TrimPrefix(path, m.prefix), path, data)
			return
		}
	}
	if held == nil {
		fail(w, 403, "permission denied")
		return
	}
	fail(w, 404, fmt.Sprintf("no handler for route %q. route entry not found.", path))
}

func (s *server) allowed(held *token, path string) bool {
	if held == nil {
		return false
	}
	for _, name := range held.policies {
		if name == "root" {
			return true
		}
		s.Lock()
		prefixes := s.policies[name]
		s.Unlock()
		for _, prefix := range prefixes {
			if strings.HasPrefix(path, prefix) {
				return true
			}
		}
	}
	return false
}

func unauthenticated(m *mount, path string) bool {
	special := m.backend.SpecialPaths()
	if special == nil {
		return false
	}
	for _, pattern := range special.Unauthenticated {
		if fits(pattern, path) {
			return true
		}
	}
	return false
}

func fits(pattern, path string) bool {
	prefix := strings.HasSuffix(pattern, "*")
	want, have := strings.Split(strings.TrimSuffix(pattern, "*"), "/"), strings.Split(path, "/")
	if len(have) < len(want) || (!prefix && len(have) != len(want)) {
		return false
	}
	for index, part := range want {
		last := prefix && index == len(want)-1
		if part != "+" && part != have[index] && !(last && strings.HasPrefix(have[index], part)) {
			return false
		}
	}
	return true
}

func (s *server) backendPath(w http.ResponseWriter, r *http.Request, m *mount, held *token, path, whole string, data map[string]any) {
	if !unauthenticated(m, path) && !s.allowed(held, whole) {
		failAll(w, 403, "1 error occurred:\n\t* permission denied\n\n")
		return
	}
	operation := map[string]logical.Operation{
		"GET": logical.ReadOperation, "POST": logical.UpdateOperation, "PUT": logical.UpdateOperation,
		"DELETE": logical.DeleteOperation, "LIST": logical.ListOperation,
	}[r.Method]
	request := &logical.Request{
		ID: random(""), Operation: operation, Path: path, Data: data, Storage: m.storage, MountPoint: m.prefix,
		MountType: m.kind, ClientToken: r.Header.Get("X-Vault-Token"), HTTPRequest: r,
		Connection: &logical.Connection{RemoteAddr: "127.0.0.1", ConnState: r.TLS},
	}
	if operation == logical.UpdateOperation {
		if found, exists, err := m.backend.HandleExistenceCheck(r.Context(), request); err == nil && found && !exists {
			request.Operation = logical.CreateOperation
		}
	}
	response, err := m.backend.HandleRequest(r.Context(), request)
	if status, problem := logical.RespondErrorCommon(request, response, err); problem != nil || status != 0 {
		var coded logical.HTTPCodedError
		if errors.As(err, &coded) {
			status = coded.Code()
		}
		if problem == nil {
			failAll(w, status)
			return
		}
		failAll(w, status, problem.Error())
		return
	}
	if response == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if response.Auth != nil {
		s.login(response.Auth)
	}
	if kind, ok := response.Data[logical.HTTPContentType].(string); ok {
		body, _ := response.Data[logical.HTTPRawBody].([]byte)
		if text, isText := response.Data[logical.HTTPRawBody].(string); isText {
			body = []byte(text)
		}
		status, _ := response.Data[logical.HTTPStatusCode].(int)
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(max(status, 200))
		_, _ = w.Write(body)
		return
	}
	told := logical.LogicalResponseToHTTPResponse(response)
	told.RequestID = request.ID
	s.say(w, r, told)
}

// login makes a token of what an authentication backend grants.
func (s *server) login(auth *logical.Auth) {
	ttl := auth.TTL
	if ttl == 0 {
		ttl = time.Hour
	}
	made := &token{id: random("hvs."), policies: append(append([]string{}, auth.Policies...), auth.TokenPolicies...), ttl: ttl,
		ends: time.Now().Add(ttl), renewable: auth.Renewable, max: time.Now().Add(24 * time.Hour)}
	if auth.MaxTTL > 0 {
		made.max = time.Now().Add(auth.MaxTTL)
	}
	if len(made.policies) == 0 {
		made.policies = []string{"default"}
	}
	s.Lock()
	s.tokens[made.id] = made
	s.Unlock()
	auth.ClientToken, auth.TTL = made.id, ttl
}

func (s *server) tokenPath(w http.ResponseWriter, r *http.Request, held *token, path string, data map[string]any) {
	if held == nil {
		failAll(w, 403, "permission denied")
		return
	}
	switch path {
	case "lookup-self":
		left := 0.0
		if !held.ends.IsZero() {
			left = time.Until(held.ends).Seconds()
		}
		s.say(w, r, map[string]any{"data": map[string]any{"ttl": int(left), "renewable": held.renewable,
			"policies": held.policies, "creation_ttl": int(held.ttl.Seconds())}})
	case "renew-self":
		if !held.renewable {
			failAll(w, 400, "lease is not renewable")
			return
		}
		s.Lock()
		held.ends = time.Now().Add(held.ttl)
		if held.ends.After(held.max) {
			held.ends = held.max
		}
		left := time.Until(held.ends)
		s.Unlock()
		s.say(w, r, map[string]any{"auth": map[string]any{"client_token": held.id, "renewable": true, "lease_duration": int(left.Seconds())}})
	case "create":
		if !s.allowed(held, "auth/token/create") {
			failAll(w, 403, "permission denied")
			return
		}
		ttl, err := time.ParseDuration(fmt.Sprint(data["ttl"]))
		if err != nil {
			ttl = time.Hour
		}
		made := &token{id: random("hvs."), ttl: ttl, ends: time.Now().Add(ttl), renewable: data["renewable"] != false, max: time.Now().Add(24 * time.Hour)}
		for _, one := range data["policies"].([]any) {
			made.policies = append(made.policies, one.(string))
		}
		s.Lock()
		s.tokens[made.id] = made
		s.Unlock()
		s.say(w, r, map[string]any{"auth": map[string]any{"client_token": made.id, "renewable": made.renewable, "lease_duration": int(ttl.Seconds())}})
	default:
		failAll(w, 404)
	}
}

// say answers, or wraps the answer where that is asked for.
func (s *server) say(w http.ResponseWriter, r *http.Request, body any) {
	ttl, err := time.ParseDuration(r.Header.Get("X-Vault-Wrap-TTL"))
	if err != nil {
		answer(w, 200, body)
		return
	}
	raw, err := json.Marshal(body)
	check(err)
	id := random("hvs.wrap.")
	s.Lock()
	s.wrapped[id] = wrapped{body: raw, ends: time.Now().Add(ttl)}
	s.Unlock()
	answer(w, 200, map[string]any{"wrap_info": map[string]any{"token": id, "ttl": int(ttl.Seconds()), "creation_path": strings.TrimPrefix(r.URL.Path, "/v1/")}})
}

func (s *server) unwrap(w http.ResponseWriter, r *http.Request, data map[string]any) {
	id, _ := data["token"].(string)
	if id == "" {
		id = r.Header.Get("X-Vault-Token")
	}
	s.Lock()
	kept, ok := s.wrapped[id]
	delete(s.wrapped, id)
	s.Unlock()
	if !ok || time.Now().After(kept.ends) {
		failAll(w, 400, "wrapping token is not valid or does not exist")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(kept.body)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, status int, text string) { failAll(w, status, text) }

func failAll(w http.ResponseWriter, status int, texts ...string) {
	answer(w, status, map[string]any{"errors": append([]string{}, texts...)})
}
