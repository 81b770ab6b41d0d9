package pim

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

func TestRawAnswersArePassedOnAsTheyAre(t *testing.T) {
	body := []byte("SSHKRL\n\x00\xff\xfe")
	resp, err := (&answer{raw: body}).response(op{verb: logical.ReadOperation, media: mediaRaw})
	if err != nil {
		t.Fatal(err)
	}
	got, ok := resp.Data[logical.HTTPRawBody].([]byte)
	if !ok || !bytes.Equal(got, body) || resp.Data[logical.HTTPContentType] != mediaRaw || resp.Data[logical.HTTPStatusCode] != http.StatusOK {
		t.Errorf("%+v", resp.Data)
	}
	if resp, err := (*answer)(nil).response(op{verb: logical.ReadOperation, media: mediaRaw}); resp != nil || err != nil {
		t.Errorf("nothing is a 404: %+v, %v", resp, err)
	}
}

// What needs no token is one path, which is read and takes nothing.
func TestOnlyTheListNeedsNoToken(t *testing.T) {
	b, _ := wholeBackend(t)
	open := b.PathsSpecial.Unauthenticated
	if len(open) != 1 {
		t.Fatalf("paths without a token: %v", open)
	}
	pattern := regexp.MustCompile("^" + strings.ReplaceAll(open[0], "+", "[^/]+") + "$")
	found := 0
	for _, r := range b.handler.routes {
		if !pattern.MatchString(samplePath(r)) {
			continue
		}
		found++
		if r.name != "public-krl" || len(r.fields) > 0 || len(r.ops) != 1 || r.ops[0].verb != logical.ReadOperation {
			t.Errorf("%s is open to everybody", r.name)
		}
	}
	if found != 1 {
		t.Errorf("%d paths are open to everybody", found)
	}
}
