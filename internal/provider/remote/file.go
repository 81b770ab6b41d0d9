package remote

import (
	"os"
	"path/filepath"
)

// File is a file of the machine's that is read anew at every use. The zero
// value is no file.
type File struct {
	Root string // directory that it may not leave, links included; "" = Path is trusted
	Path string // below Root, if there is one
}

// FileBelow is the file of that name, absolute or not, if it is inside root.
func FileBelow(root, name string) (File, bool) {
	if root == "" || name == "" {
		return File{}, false
	}
	if filepath.IsAbs(name) {
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return File{}, false
		}
		name = rel
	}
	return File{Root: root, Path: name}, filepath.IsLocal(name)
}

// Read reads the file. Its errors hold no path.
func (f File) Read() ([]byte, error) {
	if f.Root == "" {
		raw, err := os.ReadFile(f.Path)
		return raw, WithoutText(err)
	}
	dir, err := os.OpenRoot(f.Root)
	if err != nil {
		return nil, WithoutText(err)
	}
	raw, err := dir.ReadFile(f.Path)
	if closeErr := dir.Close(); err == nil {
		err = closeErr
	}
	return raw, WithoutText(err)
}
