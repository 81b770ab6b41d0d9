"""A second client: Microsoft's own libraries for Python, told where to call.

    look.py login AUTHORITY TENANT < credential.json
        logs in with client_id and client_secret as they were issued and prints
        who the token says it is for.
    look.py roles AUTHORITY TENANT MANAGER SUBSCRIPTION PRINCIPAL < credential.json
        logs in likewise and prints the roles that a principal has in the
        subscription, one ROLE@SCOPE a line.
    look.py schedules AUTHORITY TENANT MANAGER SUBSCRIPTION PRINCIPAL < credential.json
        prints the role assignments of a principal that have an end, one
        ROLE@SCOPE END a line.

REQUESTS_CA_BUNDLE names the authority that vouches for the addresses.
"""

import base64
import json
import sys

from azure.identity import ClientSecretCredential
from azure.mgmt.authorization import AuthorizationManagementClient

SCOPE = "https://management.core.windows.net/.default"


def credential(authority, tenant):
    issued = json.load(sys.stdin)
    return ClientSecretCredential(
        tenant,
        issued["client_id"],
        issued["client_secret"],
        authority=authority,
        disable_instance_discovery=True,
    )


def login(authority, tenant):
    body = credential(authority, tenant).get_token(SCOPE).token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    print(claims["appid"])


def client(authority, tenant, manager, subscription):
    return AuthorizationManagementClient(
        credential(authority, tenant),
        subscription,
        base_url=manager,
        credential_scopes=[SCOPE],
    )


def last(name):
    return name.rsplit("/", 1)[-1]


def roles(authority, tenant, manager, subscription, principal):
    c = client(authority, tenant, manager, subscription)
    for a in c.role_assignments.list_for_scope(
        "subscriptions/" + subscription, filter=f"assignedTo('{principal}')"
    ):
        print(last(a.role_definition_id) + "@" + a.scope)


def schedules(authority, tenant, manager, subscription, principal):
    c = client(authority, tenant, manager, subscription)
    for s in c.role_assignment_schedules.list_for_scope(
        "subscriptions/" + subscription, filter=f"principalId eq '{principal}'"
    ):
        print(last(s.role_definition_id) + "@" + s.scope, s.end_date_time.isoformat())


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("login", "roles", "schedules"):
        sys.exit(__doc__)
    {"login": login, "roles": roles, "schedules": schedules}[sys.argv[1]](*sys.argv[2:])
