package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// WithData is h with the provider's own part, as JSON.
func WithData(h domain.Handle, data any) (domain.Handle, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return domain.Handle{}, fmt.Errorf("encode handle data: %w", err)
	}
	h.Data = raw
	return h, nil
}

// ReadData decodes the provider's own part of a handle. own has the type, the
// version and the target that h must be of; sane holds what was decoded to the
// forms that its parts have, since they become parts of paths.
func ReadData[D any](op string, own, h domain.Handle, sane func(D) bool) (data D, err error) {
	switch {
	case h.Provider != own.Provider || h.Target != own.Target:
		return data, contract.BadHandle(op, "is of another target")
	case h.V != own.V:
		return data, contract.BadHandle(op, "was written by a newer version of the plugin")
	case !domain.ValidID(string(h.Credential)):
		return data, contract.BadHandle(op, "names no credential")
	}
	dec := json.NewDecoder(bytes.NewReader(h.Data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&data); err != nil || !sane(data) {
		return data, contract.BadHandle(op, "is not readable")
	}
	return data, nil
}

// SameData tells whether two handles' own parts are stored alike.
func SameData[D any](a, b D) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// Note checkpoints what was learnt, if change makes anything new of data, and
// returns the handle and the data as they now are.
func Note[D any](h domain.Handle, data D, change func(*D), save func(domain.Handle) error) (domain.Handle, D, error) {
	next := data
	change(&next)
	if SameData(next, data) {
		return h, data, nil
	}
	noted, err := WithData(h, next)
	if err != nil {
		return h, data, err
	}
	if err := save(noted); err != nil {
		return h, data, err
	}
	return noted, next, nil
}

// Prove has the target prove which place it is, and refuses any other than
// wanted. pinned is the place of the target as it is configured.
func Prove(ctx context.Context, op string, p contract.Provider, pinned, wanted string) error {
	if pinned != wanted {
		return contract.PlaceError(op)
	}
	place, err := p.Place(ctx)
	if err != nil {
		return err
	}
	if place != wanted {
		return contract.PlaceError(op)
	}
	return nil
}
