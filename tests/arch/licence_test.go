package arch

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// licences that go together with ours (MPL-2.0) in one binary, each by a phrase
// that its text holds. Anything else in the shipped graph, such as the host's own
// BUSL-1.1, is refused.
var licences = map[string]string{
	"Apache-2.0": "Apache License Version 2.0",
	"BSD":        "Redistribution and use in source and binary forms",
	"ISC":        "Permission to use, copy, modify, and/or distribute this software for any",
	"MIT":        "Permission is hereby granted, free of charge, to any person",
	"MPL-2.0":    "Mozilla Public License",
}

func TestLicencesOfWhatIsShipped(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps",
		"-f", `{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}`, "./cmd/vault-plugin-secrets-pim")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	modules := strings.Fields(string(out))
	if len(modules) < 20 {
		t.Fatalf("go list found only %d modules", len(modules)/2)
	}
	seen := map[string]bool{}
	for pair := range slices.Chunk(modules, 2) {
		if path, dir := pair[0], pair[1]; !seen[path] {
			seen[path] = true
			if found := licenceOf(t, dir); found == "" {
				t.Errorf("%s has no licence that we know to be compatible: look at %s", path, dir)
			}
		}
	}
}

// licenceOf returns the first known licence in a module's directory.
func licenceOf(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "[LCM]*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.ToUpper(filepath.Base(file))
		if !strings.HasPrefix(name, "LICEN") && !strings.HasPrefix(name, "COPYING") && !strings.HasPrefix(name, "MIT") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		flowing := strings.Join(strings.Fields(string(text)), " ")
		for licence, phrase := range licences {
			if strings.Contains(flowing, phrase) {
				return licence
			}
		}
	}
	return ""
}
