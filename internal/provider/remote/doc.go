// Package remote is what providers have in common whose targets are services
// on the network: the way there, its failures in our own words, files of
// credentials, the form of handles, the proof of the place, and the patience
// that a target needs that does not show at once what was made. What a provider
// says to its target, and what the target's answers mean, is its own.
package remote
