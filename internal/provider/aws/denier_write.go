package aws

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// writeAll writes the shards that changed: first where something is added, so
// that a failure half way leaves too much denied rather than too little.
func (d *denier) writeAll(ctx context.Context, h holder, readAt time.Time, changed map[*shard]string) error {
	for _, emptied := range []bool{false, true} {
		for x, text := range changed {
			if (text == "") != emptied {
				continue
			}
			if err := d.writeOne(ctx, h, readAt, x, text); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *denier) writeOne(ctx context.Context, h holder, readAt time.Time, x *shard, text string) error {
	if x.arn != pendingARN {
		left := d.pace.settle - d.clk.Now().Sub(readAt)
		if left <= 0 {
			return errLate
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left)
		defer cancel()
	}
	switch {
	case x.arn == "" && text == "":
		if err := d.api.DeleteInline(ctx, h, x.name); err != nil && !isAbsent(err) {
			return failed("delete revocation policy", err)
		}
		return nil
	case x.arn == "":
		return failed("write revocation policy", d.api.PutInline(ctx, h, x.name, text))
	case text == "":
		return d.drop(ctx, h, x)
	case x.arn == pendingARN:
		return d.extend(ctx, h, x, text)
	}
	if err := d.api.WritePolicy(ctx, x.arn, text); err != nil {
		return failed("write revocation policy", err)
	}
	return nil
}

// errLate stops a write that would come later after its reading than others
// wait for: it could take back what they entered meanwhile.
var errLate = &contract.Error{
	Op: "write revocation policy", Code: "late", Public: "AWS was too slow for a safe change of the policy",
}

// extend makes and attaches one more policy. One of that name that is not
// attached is the remainder of an attempt that was cut.
func (d *denier) extend(ctx context.Context, h holder, x *shard, text string) error {
	arn, err := d.api.CreatePolicy(ctx, newPolicy{
		Name: x.name, Path: policyPath, Document: text, Tags: map[string]string{tagManaged: "revocations"},
	})
	if isTaken(err) {
		arn = d.policyARN + x.name
		err = d.api.WritePolicy(ctx, arn, text)
	}
	if err != nil {
		return failed("create revocation policy", err)
	}
	if err := d.api.Attach(ctx, h, arn); err != nil {
		return failed("attach revocation policy", err)
	}
	d.forget(h)
	return nil
}

// drop takes an overflow policy away in which nothing is needed any more.
func (d *denier) drop(ctx context.Context, h holder, x *shard) error {
	if err := d.api.Detach(ctx, h, x.arn); err != nil && !isAbsent(err) {
		return failed("detach revocation policy", err)
	}
	if err := d.api.DeletePolicy(ctx, x.arn); err != nil && !isAbsent(err) {
		return failed("delete revocation policy", err)
	}
	d.forget(h)
	return nil
}
