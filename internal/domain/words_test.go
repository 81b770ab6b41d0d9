package domain

import (
	"strings"
	"testing"
)

func TestPersonOf(t *testing.T) {
	rows := []struct {
		name, key, value string
		want             Person
		ok               bool
	}{
		{"without a person key an entity is its own person", "", "alice@example.com", Person("entity:" + uuid('a')), true},
		{"the value makes the person", "email", "alice@example.com", "email:alice@example.com", true},
		{"white space around it does not matter", "email", " \talice@example.com\n", "email:alice@example.com", true},
		{"case does not matter", "email", "Alice@Example.COM", "email:alice@example.com", true},
		{"decomposed letters are composed", "email", "andre\u0301@example.com", "email:andr\u00e9@example.com", true},
		{"letters that compose only in lower case are composed", "email", "J\u030cane", "email:\u01f0ane", true},
		{"a missing value is no person", "email", "", "", false},
		{"white space is no person", "email", " \t ", "", false},
		{"another key's value is not taken", "employee", "", "", false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			e := entity("alice")
			e.Metadata["email"] = row.value
			p, ok := PersonOf(e, row.key)
			if p != row.want || ok != row.ok {
				t.Fatalf("%q, %v", p, ok)
			}
		})
	}
	if _, ok := PersonOf(Entity{}, ""); ok {
		t.Error("no entity is a person")
	}
	if _, ok := PersonOf(Entity{ID: uuid(1)}, "email"); ok {
		t.Error("an entity without metadata is a person")
	}
}

func TestIsMachine(t *testing.T) {
	alias := func(mountType, accessor string) Alias { return Alias{MountType: mountType, MountAccessor: accessor} }
	rows := []struct {
		name    string
		aliases []Alias
		want    bool
	}{
		{"userpass is for people", []Alias{alias("userpass", "a")}, false},
		{"ldap is for people", []Alias{alias("ldap", "a")}, false},
		{"okta is for people", []Alias{alias("okta", "a")}, false},
		{"github is for people", []Alias{alias("github", "a")}, false},
		{"radius is for people", []Alias{alias("radius", "a")}, false},
		{"kerberos is for people", []Alias{alias("kerberos", "a")}, false},
		{"saml is for people", []Alias{alias("saml", "a")}, false},
		{"approle is for machines", []Alias{alias("approle", "a")}, true},
		{"kubernetes is for machines", []Alias{alias("kubernetes", "a")}, true},
		{"aws is for machines", []Alias{alias("aws", "a")}, true},
		{"gcp is for machines", []Alias{alias("gcp", "a")}, true},
		{"azure is for machines", []Alias{alias("azure", "a")}, true},
		{"cert is for machines", []Alias{alias("cert", "a")}, true},
		{"cf is for machines", []Alias{alias("cf", "a")}, true},
		{"oci is for machines", []Alias{alias("oci", "a")}, true},
		{"an unknown type is for machines", []Alias{alias("custom", "a")}, true},
		{"no type is for machines", []Alias{alias("", "a")}, true},
		{"jwt is for machines", []Alias{alias("jwt", "a")}, true},
		{"oidc is for machines", []Alias{alias("oidc", "a")}, true},
		{"a jwt mount named as human is for people", []Alias{alias("jwt", "human")}, false},
		{"an oidc mount named as human is for people", []Alias{alias("oidc", "human")}, false},
		{"naming an approle mount as human changes nothing", []Alias{alias("approle", "human")}, true},
		{"one machine login makes the whole entity a machine", []Alias{alias("userpass", "a"), alias("approle", "b")}, true},
		{"two logins of people are no machine", []Alias{alias("userpass", "a"), alias("oidc", "human")}, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if got := IsMachine(Entity{Aliases: row.aliases}, []string{"human"}); got != row.want {
				t.Fatalf("machine: %v", got)
			}
		})
	}
}

func TestCheckText(t *testing.T) {
	rows := []struct {
		name, text, want string
	}{
		{"plain text is fine", "deploy of v1.2, ticket OPS-1", ""},
		{"other scripts are fine", "développer 日本語 نص 🙂", ""},
		{"nothing is fine", "", ""},
		{"the longest text is fine", strings.Repeat("x", 2048), ""},
		{"one byte more is too long", strings.Repeat("x", 2049), "longer than 2048 bytes"},
		{"bytes count, not letters", strings.Repeat("é", 1025), "longer than 2048 bytes"},
		{"a line break is refused", "a\nb", "has control or bidirectional characters"},
		{"an escape sequence is refused", "a\x1b[2J", "has control or bidirectional characters"},
		{"a zero byte is refused", "a\x00", "has control or bidirectional characters"},
		{"a C1 control is refused", "a\u0085", "has control or bidirectional characters"},
		{"a right-to-left override is refused", "a\u202eb", "has control or bidirectional characters"},
		{"an isolate is refused", "a\u2066b", "has control or bidirectional characters"},
		{"a zero-width joiner is refused", "a\u200db", "has control or bidirectional characters"},
		{"a line separator is refused", "a\u2028b", "has control or bidirectional characters"},
		{"bytes that are no text are refused", "a\xff", "not valid UTF-8"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if got := CheckText(row.text, MaxJustification); got != row.want {
				t.Fatalf("%q", got)
			}
			shown := Printable(row.text)
			if CheckText(shown, 1<<20) != "" {
				t.Fatalf("still hidden when shown: %q", shown)
			}
			if row.want == "" && shown != row.text {
				t.Fatalf("a harmless text is shown as %q", shown)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"a\u202eb": `a\u202eb`, "a\nb": `a\u000ab`, "a\xffb": `a\ufffdb`, "bob": "bob",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q is shown as %q", in, got)
		}
	}
}

func TestCompilePattern(t *testing.T) {
	rows := []struct {
		name, pattern, yes, no string
		ok                     bool
	}{
		{"a pattern matches whole values only", "OPS-[0-9]+", "OPS-12", "xOPS-12", true},
		{"at the end too", "OPS-[0-9]+", "OPS-12", "OPS-12x", true},
		{"alternatives are anchored together", "dev|prod", "prod", "dev-prod", true},
		{"an own anchor does no harm", "^dev$", "dev", "xdev", true},
		{"lines do not end values", "(?m)dev", "dev", "dev\nprod", true},
		{"the longest pattern", strings.Repeat("a", 512), strings.Repeat("a", 512), "a", true},
		{"a longer one is refused", strings.Repeat("a", 513), "", "", false},
		{"an open bracket is refused", "(", "", "", false},
		{"brackets that would leave the anchors are refused", "dev)|(?:.*", "", "", false},
		{"a trailing escape is refused", `dev\`, "", "", false},
		{"look-ahead is no RE2", "(?=a)", "", "", false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			re, err := CompilePattern(row.pattern)
			if (err == nil) != row.ok {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				if strings.Contains(err.Error(), row.pattern) && len(row.pattern) > 3 {
					t.Fatalf("the error repeats the pattern: %v", err)
				}
				return
			}
			if !re.MatchString(row.yes) || re.MatchString(row.no) {
				t.Fatalf("%q: %v, %q: %v", row.yes, re.MatchString(row.yes), row.no, re.MatchString(row.no))
			}
		})
	}
}

func TestReferences(t *testing.T) {
	rows := []struct {
		name, ref     string
		entity, group bool
	}{
		{"an id names an entity", uuid(1), true, true},
		{"an alias names an entity", "alias:auth_userpass_1/alice", true, true},
		{"an alias may contain slashes", "alias:auth_jwt_1/repo:org/app:ref:refs/heads/main", true, true},
		{"a name names a group and no entity", "leads", false, true},
		{"upper-case hex is no id", strings.ToUpper("abcdef00-0000-4000-8000-000000000000"), false, true},
		{"nothing names nobody", "", false, false},
		{"white space names nobody", "  ", false, false},
		{"a wildcard names nobody", "*", false, false},
		{"nor a wildcard in an alias", "alias:auth_jwt_1/repo:*", false, false},
		{"nor in an accessor", "alias:*/alice", false, false},
		{"an alias needs a name", "alias:auth_userpass_1/", false, true},
		{"an alias needs an accessor", "alias:/alice", false, true},
		{"an alias needs both", "alias:alice", false, true},
		{"nothing hidden", "alias:auth_userpass_1/al\u202eice", false, false},
		{"nothing endless", "alias:a/" + strings.Repeat("x", 513), false, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if e := CheckEntityRef(row.ref); (e == "") != row.entity {
				t.Errorf("as entity: %q", e)
			}
			if g := CheckGroupRef(row.ref); (g == "") != row.group {
				t.Errorf("as group: %q", g)
			}
		})
	}
}
