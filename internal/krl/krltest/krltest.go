// Package krltest reads key revocation lists, for tests that ask a list what
// it revokes. It shares no code with package krl, which writes them.
package krltest

import (
	"errors"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/ssh"
)

// List is what a key revocation list says.
type List struct {
	Number    uint64
	Generated uint64 // Unix seconds
	Comment   string
	Entries   []Entry
	Kinds     []byte // types of the sections about certificates, in order
}

// Entry revokes serials low to high, or one key id, of one CA.
type Entry struct {
	CA        string // wire form
	Low, High uint64
	KeyID     string
}

type header struct {
	Magic     [8]byte
	Format    uint32
	Number    uint64
	Generated uint64
	Flags     uint64
	Reserved  []byte
	Comment   string
	Rest      []byte `ssh:"rest"`
}

type section struct {
	Type byte
	Data []byte
	Rest []byte `ssh:"rest"`
}

// Parse reads a list and refuses everything that it does not know.
func Parse(raw []byte) (List, error) {
	var h header
	if err := ssh.Unmarshal(raw, &h); err != nil {
		return List{}, fmt.Errorf("header: %w", err)
	}
	if string(h.Magic[:]) != "SSHKRL\n\x00" || h.Format != 1 || h.Flags != 0 {
		return List{}, errors.New("not a list of format 1")
	}
	l := List{Number: h.Number, Generated: h.Generated, Comment: h.Comment}
	err := each(h.Rest, func(s section) error {
		if s.Type != 1 {
			return fmt.Errorf("section of type %d", s.Type)
		}
		return l.certificates(s.Data)
	})
	return l, err
}

func each(raw []byte, see func(section) error) error {
	for len(raw) > 0 {
		var s section
		if err := ssh.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("section: %w", err)
		}
		if err := see(s); err != nil {
			return err
		}
		raw = s.Rest
	}
	return nil
}

func (l *List) certificates(raw []byte) error {
	var head struct {
		CA       string
		Reserved []byte
		Rest     []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(raw, &head); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	return each(head.Rest, func(s section) error {
		l.Kinds = append(l.Kinds, s.Type)
		switch s.Type {
		case 0x20:
			return l.list(head.CA, s.Data)
		case 0x21:
			return l.span(head.CA, s.Data)
		case 0x22:
			return l.bitmap(head.CA, s.Data)
		case 0x23:
			return l.keyIDs(head.CA, s.Data)
		}
		return fmt.Errorf("certificate section of type %d", s.Type)
	})
}

func (l *List) list(ca string, raw []byte) error {
	for len(raw) > 0 {
		var one struct {
			Serial uint64
			Rest   []byte `ssh:"rest"`
		}
		if err := ssh.Unmarshal(raw, &one); err != nil {
			return err
		}
		l.Entries = append(l.Entries, Entry{CA: ca, Low: one.Serial, High: one.Serial})
		raw = one.Rest
	}
	return nil
}

func (l *List) span(ca string, raw []byte) error {
	var r struct{ Low, High uint64 }
	if err := ssh.Unmarshal(raw, &r); err != nil {
		return err
	}
	if r.Low > r.High {
		return errors.New("a range that ends before it begins")
	}
	l.Entries = append(l.Entries, Entry{CA: ca, Low: r.Low, High: r.High})
	return nil
}

func (l *List) bitmap(ca string, raw []byte) error {
	var b struct {
		Offset uint64
		Bits   *big.Int
	}
	if err := ssh.Unmarshal(raw, &b); err != nil {
		return err
	}
	if b.Bits.Sign() <= 0 || b.Bits.BitLen() > 1<<14 {
		return errors.New("a bitmap that sshd does not read")
	}
	for i := range b.Bits.BitLen() {
		if b.Bits.Bit(i) == 1 {
			s := b.Offset + uint64(i)
			l.Entries = append(l.Entries, Entry{CA: ca, Low: s, High: s})
		}
	}
	return nil
}

func (l *List) keyIDs(ca string, raw []byte) error {
	for len(raw) > 0 {
		var one struct {
			ID   string
			Rest []byte `ssh:"rest"`
		}
		if err := ssh.Unmarshal(raw, &one); err != nil {
			return err
		}
		l.Entries = append(l.Entries, Entry{CA: ca, KeyID: one.ID})
		raw = one.Rest
	}
	return nil
}

// Revokes tells whether a certificate is on the list, as sshd decides it.
func (l List) Revokes(c *ssh.Certificate) bool {
	ca := string(c.SignatureKey.Marshal())
	return slices.ContainsFunc(l.Entries, func(e Entry) bool {
		if e.CA != ca {
			return false
		}
		if e.KeyID != "" {
			return e.KeyID == c.KeyId
		}
		return c.Serial != 0 && e.Low <= c.Serial && c.Serial <= e.High
	})
}
