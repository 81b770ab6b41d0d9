// Package krl writes OpenSSH key revocation lists in the binary form that
// sshd's RevokedKeys reads (PROTOCOL.krl of OpenSSH). It revokes certificates
// by serial and by key id, always bound to the CA that signed them. It is pure:
// the same list is the same bytes.
package krl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// The numbers of the format.
const (
	magic         = "SSHKRL\n\x00"
	formatVersion = 1

	sectionCertificates = 1

	certSerialList   = 0x20
	certSerialRange  = 0x21
	certSerialBitmap = 0x22
	certKeyID        = 0x23
)

// The errors of Marshal. Each is something that sshd would not read, or would
// read as something else than was meant.
var (
	ErrNoCA   = errors.New("krl: entries without a CA key would apply to every CA")
	ErrSerial = errors.New("krl: serial 0 means a certificate without a serial; revoke it by its key id")
	ErrKeyID  = errors.New("krl: an empty key id")
)

// List is a key revocation list.
type List struct {
	Number    uint64    // of this issue of the list; readers may compare it
	Generated time.Time // whole seconds; zero = not told
	Comment   string    // for people
	CAs       []CA
}

// CA is what is revoked of one CA's certificates.
type CA struct {
	Key     []byte   // the CA's public key in SSH wire form
	Serials []uint64 // in any order, repeated ones count once
	KeyIDs  []string
}

// Marshal renders the list. Without any CA it is a valid list that revokes
// nothing.
func (l List) Marshal() ([]byte, error) {
	var out writer
	out.WriteString(magic)
	out.uint32(formatVersion)
	out.uint64(l.Number)
	if l.Generated.IsZero() {
		out.uint64(0)
	} else {
		out.uint64(uint64(max(l.Generated.Unix(), 0)))
	}
	out.uint64(0) // flags: none are defined
	out.string(nil)
	out.string([]byte(l.Comment))
	for _, ca := range merged(l.CAs) {
		section, err := ca.section()
		if err != nil {
			return nil, err
		}
		if section != nil {
			out.WriteByte(sectionCertificates)
			out.string(section)
		}
	}
	return out.Bytes(), nil
}

// merged joins the entries of each CA, in order of their keys.
func merged(cas []CA) []CA {
	var out []CA
	for _, ca := range cas {
		i := slices.IndexFunc(out, func(have CA) bool { return bytes.Equal(have.Key, ca.Key) })
		if i < 0 {
			out = append(out, CA{Key: ca.Key})
			i = len(out) - 1
		}
		out[i].Serials = append(out[i].Serials, ca.Serials...)
		out[i].KeyIDs = append(out[i].KeyIDs, ca.KeyIDs...)
	}
	slices.SortFunc(out, func(a, b CA) int { return bytes.Compare(a.Key, b.Key) })
	for i := range out {
		slices.Sort(out[i].Serials)
		out[i].Serials = slices.Compact(out[i].Serials)
		slices.Sort(out[i].KeyIDs)
		out[i].KeyIDs = slices.Compact(out[i].KeyIDs)
	}
	return out
}

// section renders one CA's entries, nil when there are none.
func (ca CA) section() ([]byte, error) {
	switch {
	case len(ca.Serials) == 0 && len(ca.KeyIDs) == 0:
		return nil, nil
	case len(ca.Key) == 0:
		return nil, ErrNoCA
	case len(ca.Serials) > 0 && ca.Serials[0] == 0:
		return nil, ErrSerial
	case len(ca.KeyIDs) > 0 && ca.KeyIDs[0] == "":
		return nil, ErrKeyID
	}
	var out writer
	out.string(ca.Key)
	out.string(nil) // reserved
	for _, part := range split(ca.Serials) {
		out.WriteByte(part.kind)
		out.string(part.data())
	}
	if len(ca.KeyIDs) > 0 {
		var ids writer
		for _, id := range ca.KeyIDs {
			ids.string([]byte(id))
		}
		out.WriteByte(certKeyID)
		out.string(ids.Bytes())
	}
	return out.Bytes(), nil
}

// writer writes the basic forms of RFC 4251.
type writer struct{ bytes.Buffer }

func (w *writer) uint32(n uint32) { w.Write(binary.BigEndian.AppendUint32(nil, n)) }
func (w *writer) uint64(n uint64) { w.Write(binary.BigEndian.AppendUint64(nil, n)) }

func (w *writer) string(s []byte) {
	w.uint32(uint32(len(s))) //nolint:gosec // a list of 4 GiB cannot be stored
	w.Write(s)
}
