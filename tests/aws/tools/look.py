"""A second client of AWS for the tests: one boto3 call per line.

Reads {"account": ..., "service": ..., "call": ..., "args": {...}} and answers
{"result": ...} or {"error": code}. It shares no code with the provider, so what
it sees at the end is not what the provider believes.
"""

import json
import sys

import boto3
from botocore.exceptions import ClientError

ENDPOINT = sys.argv[1]
REGION = "us-east-1"
sessions = {}


def session(account):
    """Credentials of an account come from a role in it: moto asks no more."""
    if account not in sessions:
        sts = boto3.client(
            "sts", endpoint_url=ENDPOINT, region_name=REGION,
            aws_access_key_id="tests", aws_secret_access_key="tests",
        )
        got = sts.assume_role(RoleArn=f"arn:aws:iam::{account}:role/tests", RoleSessionName="tests")["Credentials"]
        sessions[account] = boto3.Session(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"], REGION)
    return sessions[account]


def answer(ask):
    client = session(ask["account"]).client(ask["service"], endpoint_url=ENDPOINT)
    try:
        result = getattr(client, ask["call"])(**(ask.get("args") or {}))
    except ClientError as e:
        return {"error": e.response["Error"]["Code"]}
    result.pop("ResponseMetadata", None)
    return {"result": result}


for line in sys.stdin:
    try:
        out = answer(json.loads(line))
    except Exception as e:  # the test shows it
        out = {"error": repr(e)}
    print(json.dumps(out, default=str), flush=True)
