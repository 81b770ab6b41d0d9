package harness

import (
	"fmt"
	"net"
)

// FreePorts finds n ports on 127.0.0.1 that nobody listens on. All are held open
// until the last is found, so that they differ.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a local listener does not block
		if err != nil {
			return nil, err
		}
		defer l.Close() //nolint:errcheck // closing gives the port away, there is nothing to lose
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			return nil, fmt.Errorf("%s is no TCP address", l.Addr())
		}
		ports = append(ports, addr.Port)
	}
	return ports, nil
}
