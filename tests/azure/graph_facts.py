"""Reads what Microsoft's own Graph client says about the calls that the azure
provider makes: address templates, methods, query parameters, bodies.

usage: graph_facts.py DIRECTORY   (of an unpacked msgraph-sdk wheel; prints JSON)

Only these facts are kept, none of the client's text.
"""

import json
import pathlib
import re
import sys

TEMPLATES = [
    "applications",
    "applications/{application%2Did}",
    "applications/{application%2Did}/addPassword",
    "applications/{application%2Did}/removePassword",
    "applications(appId='{appId}')",
    "applications(uniqueName='{uniqueName}')",
    "directory/deletedItems/graph.application",
    "directory/deletedItems/{directoryObject%2Did}",
    "groups/{group%2Did}",
    "groups/{group%2Did}/members",
    "groups/{group%2Did}/members/$ref",
    "groups/{group%2Did}/members/{directoryObject%2Did}/$ref",
    "servicePrincipals(appId='{appId}')",
    "servicePrincipals/{servicePrincipal%2Did}",
    "servicePrincipals/{servicePrincipal%2Did}/checkMemberGroups",
    "servicePrincipals/{servicePrincipal%2Did}/ownedObjects",
]
KINDS = {
    "get_str_value": "string",
    "get_uuid_value": "string",
    "get_datetime_value": "string",
    "get_bool_value": "bool",
    "get_int_value": "number",
    "get_collection_of_primitive_values": "list",
    "get_collection_of_object_values": "list",
    "get_object_value": "object",
    "get_enum_value": "string",
}


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def fields(root, folder, name):
    """The fields of a body and of what it inherits from: name to kind."""
    for path in (folder / f"{snake(name)}.py", root / "models" / f"{snake(name)}.py"):
        if path.exists():
            text = path.read_text()
            break
    else:
        return {}
    out = {}
    base = re.search(rf"class {name}\((\w+)", text)
    if base and base.group(1) not in ("AdditionalDataHolder", "Parsable", "BackedModel"):
        out.update(fields(root, folder, base.group(1)))
    for field, getter in re.findall(r'"([^"]+)": lambda n ?: setattr\(self, \'\w+\', n\.(\w+)\(', text):
        out[field] = KINDS.get(getter, "any")
    return dict(sorted(out.items()))


def main(root):
    root = pathlib.Path(root) / "msgraph" / "generated"
    wanted, out = set(TEMPLATES), []
    for path in sorted(root.rglob("*_request_builder.py")):
        text = path.read_text()
        found = re.search(r'"\{\+baseurl\}/([^"]*?)(?:\{\?([^}"]*)\})?", path_parameters', text)
        if not found or found.group(1) not in wanted:
            continue
        calls = {}
        for method, body in re.findall(r"def to_(\w+)_request_information\(self,(?:body: (\w+))?", text):
            calls[method.upper()] = fields(root, path.parent, body) if body else {}
        query = [q.replace("%24", "$") for q in (found.group(2) or "").split(",") if q]
        address = re.sub(r"\{[^}]*\}", "*", found.group(1))
        out.append({"path": "/" + address, "query": query, "calls": calls})
        wanted.discard(found.group(1))
    if wanted:
        sys.exit("not described: " + ", ".join(sorted(wanted)))
    out.sort(key=lambda entry: entry["path"])
    print(json.dumps(out, indent=1, sort_keys=True))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
