// Package azure tests the azure provider with the plugin as a process on a real
// host. Entra, Microsoft Graph and Azure Resource Manager are
// internal/provider/azure/fakeazure on sockets of their own, with certificates
// of an authority that the test makes and the plugin's registration names
// (SSL_CERT_FILE): the login library speaks to nobody without a certificate.
// Every call is taken apart by the vendor's own fake servers, or held to the
// vendor's description.
package azure
