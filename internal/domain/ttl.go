package domain

import "time"

// ResolveTTL answers how long an access window is: what was asked, or the
// role's default, never more than the role's longest. problem is our text for
// a wrong ask, or "".
func ResolveTTL(r Role, asked Seconds, given bool) (ttl Seconds, problem string) {
	switch {
	case !given:
		return min(r.TTL, r.MaxTTL), ""
	case asked <= 0:
		return 0, "must be longer than zero"
	case asked > r.MaxTTL:
		return 0, "is longer than the role's max_ttl of " + r.MaxTTL.Duration().String()
	case asked < r.MinTTL:
		return 0, "is shorter than the role's min_ttl of " + r.MinTTL.Duration().String()
	}
	return asked, ""
}

// ResolveLease answers how long one lease is: the shortest of the role's lease
// ttl, the time left in the window, the provider's longest and the mount's
// longest, in whole seconds (the host makes anything else into something
// else). Zero bounds do not bind. ok is false when that is below the role's
// shortest or the provider's shortest: the window is ending.
func ResolveLease(r Role, left, providerMin, providerMax, mountMax time.Duration) (ttl time.Duration, ok bool) {
	ttl = left
	for _, bound := range []time.Duration{r.LeaseTTL.Duration(), providerMax, mountMax} {
		if bound > 0 && bound < ttl {
			ttl = bound
		}
	}
	ttl = ttl.Truncate(time.Second)
	floor := max(r.MinTTL.Duration(), providerMin, time.Second)
	return ttl, ttl >= floor
}
