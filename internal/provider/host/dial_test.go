package host

import "testing"

// Names are judged by what they resolve to, right before they are dialled.
func TestDialGuard(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, address     string
		plain, allowLocal bool
		refused           bool
	}{
		{name: "an encrypted call to an address elsewhere", address: "192.0.2.1:8200"},
		{name: "an encrypted call to loopback", address: "127.0.0.1:8200"},
		{name: "a plain call to loopback", address: "[::1]:8200", plain: true},
		{name: "a plain call to loopback, mapped", address: "[::ffff:127.0.0.1]:8200", plain: true},
		{name: "a plain call elsewhere", address: "192.0.2.1:8200", plain: true, refused: true},
		{name: "a plain call elsewhere, with permission for local addresses", address: "192.0.2.1:8200", plain: true, allowLocal: true, refused: true},
		{name: "the metadata service of a cloud", address: "169.254.169.254:443", refused: true},
		{name: "the metadata service, mapped", address: "[::ffff:169.254.169.254]:443", refused: true},
		{name: "a link-local IPv6 address", address: "[fe80::1%eth0]:443", refused: true},
		{name: "a link-local address, with permission", address: "169.254.1.1:443", allowLocal: true},
		{name: "every address of this machine", address: "0.0.0.0:443", refused: true},
		{name: "something that is no IP address", address: "bao.internal:443", refused: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if err := dialGuard(row.plain, row.allowLocal)("tcp", row.address, nil); (err != nil) != row.refused {
				t.Errorf("got %v", err)
			}
		})
	}
}
