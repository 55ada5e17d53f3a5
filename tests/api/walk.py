"""Walks through the admin API of a running server, and validates each reply against the OpenAPI document.

Each reply must have a documented status and content type, and must match its schema, which allows no member that is not
documented. At the end, each operation must have been called.

usage: walk.py URL TOKEN
"""

import json
import re
import sys
import urllib.error
import urllib.request

import jsonschema_rs

URL, TOKEN = sys.argv[1:]
BACKEND = "/api/v1/pools/web/backends/one"
SERVICE = "/api/v1/services/www.lb.example.test"
faults, called = [], set()


def send(method, path, body=None, token=TOKEN, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers.setdefault("Accept", "application/json")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(URL + path, data, headers, method=method)
    try:
        reply = urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as refused:
        reply = refused
    with reply:
        return reply.status, reply.headers, reply.read()


DOCUMENT = json.loads(send("GET", "/api/v1/openapi.json")[2])


def resolved(thing):
    while "$ref" in thing:
        at = DOCUMENT
        for part in thing["$ref"].split("/")[1:]:
            at = at[part]
        thing = at
    return thing


def template_of(path):
    bare = path.split("?")[0]
    for template in sorted(DOCUMENT["paths"], key=lambda template: template.count("{")):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), bare):
            return template
    raise SystemExit(f"{path} is not in the document")


def call(expected, method, path, body=None, **more):
    """Sends a request, and validates its reply."""
    template = template_of(path)
    called.add((template, method.lower()))
    status, headers, content = send(method, path, body, **more)
    place = f"{method} {path} {body if not isinstance(body, bytes) else ''}: {status}"
    if status != expected:
        faults.append(f"{place} instead of {expected}: {content[:500]}")
        return None, headers
    response = DOCUMENT["paths"][template][method.lower()]["responses"].get(str(status))
    if response is None:
        faults.append(f"{place} is not documented")
        return None, headers
    kind = headers["Content-Type"].split(";")[0]
    schema = resolved(response)["content"].get(kind, {}).get("schema")
    if schema is None:
        faults.append(f"{place}: the content type {kind} is not documented")
        return None, headers
    value = json.loads(content) if kind.endswith("json") else content.decode()
    validator = jsonschema_rs.Draft202012Validator({"components": DOCUMENT["components"], **schema})
    for error in validator.iter_errors(value):
        faults.append(f"{place}: {error.message[:300]} at {list(error.instance_path)} by {list(error.schema_path)}")
    return value, headers


def walk():
    for path in ("/healthz", "/readyz", "/metrics", "/api/v1/status", "/api/v1/pools", "/api/v1/services"):
        call(200, "GET", path)
    call(200, "GET", "/api/v1/openapi.json")
    call(200, "GET", "/api/v1/proof?nonce=" + "0" * 64)
    call(400, "GET", "/api/v1/proof?nonce=0")
    call(200, "GET", "/api/v1/pools/web")
    call(404, "GET", "/api/v1/pools/wbe")
    call(200, "GET", SERVICE)
    call(404, "GET", "/api/v1/services/www")
    call(200, "GET", "/api/v1/explain?name=www.lb.example.test&client=192.0.2.1")
    call(200, "GET", "/api/v1/explain?name=nothing.test")
    call(400, "GET", "/api/v1/explain")
    call(200, "GET", "/api/v1/events")
    call(400, "GET", "/api/v1/events?kind=none")
    call(404, "GET", "/api/v1/events?about=none")

    # Pages: each name once, in order.
    names, path = [], "/api/v1/pools?limit=1"
    while path:
        page, headers = call(200, "GET", path)
        names += [pool["name"] for pool in page["pools"]]
        path = page["next"]
        if (f'<{path}>; rel="next"' if path else None) != headers["Link"]:
            faults.append(f"{path} is the next page, and the Link is {headers['Link']}")
    if names != ["standby", "web"]:
        faults.append(f"the pages have the pools {names}")
    for query, expected in (
        ("state=healthy,unknown&limit=2", ["one", "three"]),
        ("state=healthy,unknown&limit=2&after=three", ["two"]),
        ("backend=t*&site=b", ["two"]),
        ("state=unhealthy", []),
    ):
        page, _ = call(200, "GET", f"/api/v1/pools/web?{query}")
        found = [backend["name"] for backend in page["backends"]]
        if found != expected:
            faults.append(f"{query} finds {found} instead of {expected}")
    page, _ = call(200, "GET", "/api/v1/services?state=usable&name=www.*&limit=1")
    if [service["name"] for service in page["services"]] != ["www.lb.example.test"] or page["next"]:
        faults.append(f"the services are {page}")
    for path in ("/api/v1/pools?limit=0", "/api/v1/pools?x=1", "/api/v1/pools/web?state=bad", "/api/v1/services?state="):
        call(400, "GET", path)

    # Overrides, with what two operators expect of them.
    for kind, first, second in (("override", {"state": "drain"}, {"state": "up"}), ("weight", {"percent": 30}, {"percent": 40})):
        path = f"{BACKEND}/{kind}"
        call(404, "GET", path)
        call(200, "PUT", path, {**first, "dry_run": True})
        call(412, "PUT", path, first, If_Match="*")
        _, headers = call(200, "PUT", path, {**first, "for": "1h", "reason": "walk"}, If_None_Match="*")
        tag = headers["ETag"]
        kept, headers = call(200, "GET", path)
        if tag is None or headers["ETag"] != tag or kept["etag"] != tag:
            faults.append(f"the tag is {tag}, then {headers['ETag']} and {kept['etag']}")
        call(412, "PUT", path, second, If_None_Match="*")
        changed, headers = call(200, "PUT", path, second, If_Match=tag)
        if not changed["replaced"] or changed["replaced"]["etag"] != tag:
            faults.append(f"it replaces {changed['replaced']}")
        problem, headers = call(412, "DELETE", path, If_Match=tag)
        if not problem["current"] or problem["current"]["etag"] != headers["ETag"]:
            faults.append(f"the present one is {problem['current']} with {headers['ETag']}")
        call(200, "DELETE", f"{path}?dry_run=true", If_Match=headers["ETag"])
        call(200, "DELETE", f"{path}?force=true", If_Match=headers["ETag"])
        call(412, "DELETE", path, If_Match="*")
        call(200, "DELETE", path)
        call(400, "PUT", path, {})
        call(400, "DELETE", f"{path}?now=1")
        call(404, "PUT", path.replace("one", "noe"), first)
        call(413, "PUT", path, b"x" * 17000)
        call(415, "PUT", path, b"{}", Content_Type="text/plain")
        call(401, "PUT", path, first, token=None)
        call(401, "PUT", path, first, token="0123456789abcdeg")

    # All of a site, or none.
    select = {"pool": "w*", "site": "a"}
    call(200, "POST", "/api/v1/overrides", {"select": select, "state": "drain", "dry_run": True})
    done, _ = call(200, "POST", "/api/v1/overrides", {"select": select, "state": "drain", "for": "1h"})
    if [backend["name"] for backend in done["backends"]] != ["one", "three"]:
        faults.append(f"these are drained: {done['backends']}")
    call(409, "POST", "/api/v1/overrides", {"select": {"pool": "*"}, "state": "drain"})
    call(200, "POST", "/api/v1/overrides", {"select": select, "percent": 50})
    for kind in ("state", "weight"):
        call(200, "POST", "/api/v1/overrides", {"select": {"backend": "*"}, "auto": kind})
    for select in ({"pool": "wbe"}, {"backend": "noe"}, {"site": "c"}):
        call(404, "POST", "/api/v1/overrides", {"select": select, "state": "drain"})
    call(400, "POST", "/api/v1/overrides", {"select": {}, "state": "drain"})
    call(401, "POST", "/api/v1/overrides", {"select": {"pool": "*"}, "auto": "state"}, token=None)

    path = f"{SERVICE}/failover"
    call(404, "GET", path)
    _, headers = call(200, "PUT", path, {"pool": "standby", "force": True}, If_None_Match="*")
    tag = headers["ETag"]
    call(200, "GET", path)
    call(409, "POST", f"{SERVICE}/failback")
    call(412, "PUT", path, {"pool": "web"}, If_None_Match="*")
    call(200, "GET", "/api/v1/status")
    call(200, "DELETE", f"{path}?force=true", If_Match=tag)
    call(412, "DELETE", path, If_Match=tag)
    call(404, "PUT", path, {"pool": "none"})
    call(200, "POST", f"{SERVICE}/failback?dry_run=true")
    call(200, "POST", f"{SERVICE}/failback")

    call(200, "POST", "/api/v1/reload?dry_run=true")
    call(200, "POST", "/api/v1/reload", {})
    call(409, "POST", "/api/v1/reload", {"file": "/nowhere"})
    call(400, "POST", "/api/v1/reload?x=1")
    call(200, "GET", "/api/v1/events?last=5")

    for path in ("/api/v1/query-log", "/api/v1/dnstap"):
        call(200, "GET", path)
        call(409, "PUT", path, {"sample": "10%", "for": "1m"})
        call(400, "PUT", path, {"sample": "x"})
        call(200, "DELETE", path)
    call(200, "GET", "/api/v1/audit?action=override,reload&limit=50&since=1h")
    call(400, "GET", "/api/v1/audit?limit=0")
    call(200, "GET", "/api/v1/config")
    call(200, "GET", "/api/v1/configurations")
    call(409, "POST", "/api/v1/rollback", {})
    call(400, "POST", "/api/v1/rollback", {"to": "x"})
    # An upgrade would put another process in the place of the one that this test watches.
    call(401, "POST", "/api/v1/upgrade", token=None)


walk()
operations = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
faults += [f"{method} {path} was not called" for path, method in sorted(operations - called)]
print("\n".join(faults))
sys.exit(1 if faults else 0)
