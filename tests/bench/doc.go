// Package bench measures the plugin beside its peers on one host: make bench.
package bench
