package main

import (
	"reflect"

	authkubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault-plugin-secrets-kubernetes"
	ldap "github.com/hashicorp/vault-plugin-secrets-openldap"
	authldap "github.com/hashicorp/vault/builtin/credential/ldap"
	"github.com/hashicorp/vault/builtin/logical/aws"
	"github.com/hashicorp/vault/builtin/logical/consul"
	"github.com/hashicorp/vault/builtin/logical/nomad"
	"github.com/hashicorp/vault/builtin/logical/rabbitmq"
	"github.com/hashicorp/vault/helper/builtinplugins"
	"github.com/hashicorp/vault/plugins/database/mysql"
	"github.com/hashicorp/vault/plugins/database/postgresql"
	"github.com/hashicorp/vault/sdk/logical"
)

// addEngines adds what pim brokers to the built-in plugins of Vault's "minimal"
// flavour. That flavour builds in a fraction of the time of the full one, but it
// has few engines and no database plugins. Every plugin has its usual name.
func addEngines() {
	for name, factory := range map[string]builtinplugins.BuiltinFactory{
		"mysql-database-plugin":      mysql.New(mysql.DefaultUserNameTemplate),
		"postgresql-database-plugin": postgresql.New,
	} {
		register("databasePlugins", name, factory)
	}
	for name, factory := range map[string]logical.Factory{
		"aws":        aws.Factory,
		"consul":     consul.Factory,
		"kubernetes": kubesecrets.Factory,
		"ldap":       ldap.Factory,
		"nomad":      nomad.Factory,
		"openldap":   ldap.Factory,
		"rabbitmq":   rabbitmq.Factory,
	} {
		register("logicalBackends", name, factory)
	}
	for name, factory := range map[string]logical.Factory{
		"kubernetes": authkubernetes.Factory,
		"ldap":       authldap.Factory,
	} {
		register("credentialBackends", name, factory)
	}
}

// register puts one factory into one of the registry's maps. The registry has no
// exported way to do so; should a later Vault name its fields otherwise, this
// panics at every start, which nobody can overlook.
func register(field, name string, factory any) {
	plugins := reflect.ValueOf(builtinplugins.Registry).Elem().FieldByName(field)
	plugins = reflect.NewAt(plugins.Type(), plugins.Addr().UnsafePointer()).Elem()
	entry := reflect.New(plugins.Type().Elem()).Elem()
	entry.FieldByName("Factory").Set(reflect.ValueOf(factory))
	plugins.SetMapIndex(reflect.ValueOf(name), entry)
}
