"""A second client: Google's own libraries for Python, told where to call.

    look.py login < key.json
        logs in with a service account key as it was issued and prints the token.
    look.py join ADDRESS TOKEN RESOURCE ROLE MEMBER TITLE EXPRESSION
        adds a conditional binding to the policy of a project, as a program of
        somebody else does, and prints the bindings that are there then.
    look.py leave ADDRESS TOKEN RESOURCE TITLE
        takes that binding out again.

The discovery documents that the client library ships are what it builds its
calls from and reads answers by.
"""

import json
import sys

from google.auth.transport.requests import Request
from google.oauth2.credentials import Credentials
from google.oauth2.service_account import Credentials as KeyCredentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


def login():
    key = KeyCredentials.from_service_account_info(json.load(sys.stdin), scopes=SCOPES)
    key.refresh(Request())
    print(key.token)


def change(address, token, resource, edit):
    projects = build(
        "cloudresourcemanager",
        "v3",
        credentials=Credentials(token),
        static_discovery=True,
        client_options={"api_endpoint": address},
    ).projects()
    for _ in range(30):
        policy = projects.getIamPolicy(
            resource=resource, body={"options": {"requestedPolicyVersion": 3}}
        ).execute()
        policy["bindings"] = edit(policy.get("bindings", []))
        policy["version"] = 3
        try:
            policy = projects.setIamPolicy(
                resource=resource, body={"policy": policy}
            ).execute()
        except HttpError as e:
            if e.resp.status == 409:
                continue
            raise
        json.dump(policy["bindings"], sys.stdout)
        return
    sys.exit("somebody else always came first")


def main(verb, *args):
    if verb == "login":
        login()
    elif verb == "join":
        address, token, resource, role, member, title, expression = args
        condition = {"title": title, "expression": expression}
        binding = {"role": role, "members": [member], "condition": condition}
        change(address, token, resource, lambda old: old + [binding])
    elif verb == "leave":
        address, token, resource, title = args
        change(
            address,
            token,
            resource,
            lambda old: [b for b in old if b.get("condition", {}).get("title") != title],
        )
    else:
        sys.exit(__doc__)


main(*sys.argv[1:])
