"""The catalogue: who may register, change, list and delete types, and that one which cannot be used is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from models.contracts import TypeOut, TypesPage
from models.keys import create_key
from tests.api.test_notifications import problem
from tests.api.test_users import bearing

if TYPE_CHECKING:
    import httpx

    from models.database import Connection

TYPE = "shop.parcel.arrived"
URL = f"/v1/types/{TYPE}"
TEMPLATES = {
    "en": {"title": "{{ n | plural: one: '# parcel', other: '# parcels' }}", "body": "At {{ place }}"},
    "uk": {
        "title": "{{ n | plural: one: '# посилка', few: '# посилки', many: '# посилок', other: '# посилки' }}",
        "body": "{{ place }}: забирайте",
    },
}
WHOLE: dict[str, Any] = {
    "priority": "high",
    "schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 1}}},
    "templates": TEMPLATES,
    "ttl_s": 3600,
    "mutable": True,
    "critical_overrides": True,
    "digest": None,
}


async def register(backend: httpx.AsyncClient, url: str = URL, **body: Any) -> dict[str, Any]:
    response = await backend.put(url, json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    TypeOut.model_validate_json(response.content)
    return found


async def wrong(backend: httpx.AsyncClient, method: str, url: str, body: Any) -> dict[tuple[str, str], str]:
    """What is wrong with a request, by pointer and code."""
    response = await backend.request(method, url, json=body)
    assert (response.status_code, problem(response)["code"]) == (422, "validation_failed"), response.text
    return {(each["pointer"], each["code"]): each["detail"] for each in response.json()["errors"]}


async def test_a_type_is_registered_changed_listed_and_deleted(backend: httpx.AsyncClient) -> None:
    assert (await backend.get(URL)).status_code == 404
    first = await register(backend, **WHOLE)
    assert {name: first[name] for name in WHOLE} == WHOLE
    assert (first["type"], first["version"]) == (TYPE, 1)
    assert (await backend.get(URL)).json() == first
    assert list((await backend.get(URL)).json()["templates"]) == ["en", "uk"]
    second = await register(backend)
    assert (second["version"], second["priority"], second["schema"], second["templates"]) == (2, "normal", None, {})
    assert (await backend.delete(URL)).status_code == 204
    for method in ("GET", "DELETE"):
        gone = await backend.request(method, URL)
        assert (gone.status_code, problem(gone)["code"]) == (404, "not_found")
    assert (await register(backend))["version"] == 4  # it never goes back, so that no node takes an old one for new


async def test_the_listing_is_paged_by_name_and_leaves_out_schemas_and_templates(backend: httpx.AsyncClient) -> None:
    names = [f"shop.order.{nth:02}" for nth in range(7)]
    for name in names[::-1]:
        await register(backend, f"/v1/types/{name}", **WHOLE)
    await backend.delete(f"/v1/types/{names[3]}")
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = TypesPage.model_validate((await backend.get("/v1/types", params={"after": after, "limit": 3})).json())
        found += [each.type for each in page.types]
        assert all((each.locales, each.has_schema, each.ttl_s) == (["en", "uk"], True, 3600) for each in page.types)
        after = page.next_after
    assert found == [*names[:3], *names[4:]]
    for limit in (0, 101):
        assert (await backend.get("/v1/types", params={"limit": limit})).status_code == 422


async def test_a_type_from_before_there_was_a_field_is_as_if_it_had_left_it_out(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    made = await register(backend, **WHOLE)
    connection.execute("UPDATE type SET body = (body::jsonb - 'critical_overrides' - 'digest')::json")
    assert (await backend.get(URL)).json() == made
    (listed,) = TypesPage.model_validate((await backend.get("/v1/types")).json()).types
    assert (listed.mutable, listed.critical_overrides) == (True, True)


async def test_keys_need_the_scope_and_the_domain_and_see_their_own_tenant(
    backend: httpx.AsyncClient, database_url: str
) -> None:
    await register(backend, **WHOLE)
    await register(backend, "/v1/types/blog.post.published")
    for scope, domains, status in (
        ("types:write", [], 200),
        ("types:write", ["shop"], 200),
        ("types:write", ["blog"], 403),
        ("notifications:write", [], 403),
    ):
        _, key = create_key(database_url, tenant="default", scopes=[scope], domains=domains, name="x")
        for method, body in (("PUT", {}), ("GET", None), ("DELETE", None)):
            expected = 204 if (method, status) == ("DELETE", 200) else status
            assert (await backend.request(method, URL, json=body, headers=bearing(key))).status_code == expected
        listed = await backend.get("/v1/types", headers=bearing(key))
        assert listed.status_code == (403 if scope != "types:write" else 200)
        if domains:
            assert {each["type"].partition(".")[0] for each in listed.json()["types"]} <= set(domains)
    _, other = create_key(database_url, tenant="other", scopes=["types:write"], name="other")
    assert (await backend.get("/v1/types", headers=bearing(other))).json() == {"types": [], "next_after": None}
    assert (await backend.delete("/v1/types/blog.post.published", headers=bearing(other))).status_code == 404


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"priority": "urgent"}, "/priority", "enum"),
        ({"colour": "red"}, "/colour", "extra_forbidden"),
        ({"ttl_s": 0}, "/ttl_s", "greater_than_equal"),
        ({"ttl_s": "3600"}, "/ttl_s", "int_type"),
        ({"mutable": "yes"}, "/mutable", "bool_type"),
        ({"critical_overrides": None}, "/critical_overrides", "bool_type"),
        ({"digest": {"every": "day"}}, "/digest/every", "bad_every"),
        ({"digest": {"every": "0m"}}, "/digest/every", "bad_every"),
        ({"digest": {"every": "32d"}}, "/digest/every", "bad_every"),
        ({"digest": {"every": "0 8 * *"}}, "/digest/every", "bad_every"),
        ({"digest": {"every": "0 25 * * *"}}, "/digest/every", "bad_every"),
        ({"digest": {"every": "0 0 30 2 *"}}, "/digest/every", "bad_every"),
        ({"digest": {"every": "* * * * * *"}}, "/digest/every", "bad_every"),
        ({"digest": {"every": 60}}, "/digest/every", "string_type"),
        ({"digest": {"key": "k"}}, "/digest/every", "missing"),
        ({"digest": {"every": "1h", "at": "noon"}}, "/digest/at", "extra_forbidden"),
        ({"digest": {"every": "1h", "key": "k" * 129}}, "/digest/key", "too_long"),
        ({"digest": {"every": "1h", "key": "{{ n"}}, "/digest/key", "bad_template"),
        ({"schema": "string"}, "/schema", "dict_type"),
        ({"schema": {"enum": ["x" * 33_000]}}, "/schema", "too_large"),
        ({"schema": {"const": "\x00"}}, "/schema", "nul_character"),
        ({"schema": {"$ref": "https://example.com/schema.json"}}, "/schema/$ref", "remote_ref"),
        ({"schema": {"properties": {"x": {"pattern": "(?=a)b"}}}}, "/schema/properties/x/pattern", "bad_schema"),
        ({"schema": {"type": "strin"}}, "/schema/type", "bad_schema"),
        ({"templates": {"not a locale": {"title": "x"}}}, "/templates/not a locale", "string_pattern_mismatch"),
        ({"templates": {"xx": {"title": "x"}}}, "/templates/xx", "unknown_locale"),
        ({"templates": {"en-ZY": {"title": "x"}}}, "/templates/en-ZY", "unknown_locale"),
        ({"templates": {"pt-BR": {"title": "x"}, "pt_br": {"title": "x"}}}, "/templates/pt_br", "same_locale"),
        ({"templates": {f"en-{n:03}": {"title": "x"} for n in range(33)}}, "/templates", "too_long"),
        ({"templates": {"en": {"body": "x"}}}, "/templates/en/title", "missing"),
        ({"templates": {"en": {"title": "x" * 501}}}, "/templates/en/title", "too_long"),
        ({"templates": {"en": {"title": "{% include 'x' %}"}}}, "/templates/en/title", "bad_template"),
        ({"templates": {"en": {"title": "x", "body": "{{ n.__class__ }}"}}}, "/templates/en/body", "bad_template"),
        (
            {"templates": {"en": {"title": "{% for i in (1..9999999999) %}x{% endfor %}"}}},
            "/templates/en/title",
            "bad_template",
        ),
    ],
)
async def test_refuses_a_type_that_cannot_be_used(
    body: dict[str, Any], pointer: str, code: str, backend: httpx.AsyncClient
) -> None:
    assert (pointer, code) in await wrong(backend, "PUT", URL, body)
    assert (await backend.get(URL)).status_code == 404


@pytest.mark.parametrize("name", ["shop", "Shop.order.x", "a.b.c.d.e.f", "a..b", "x" * 127 + ".y"])
async def test_refuses_a_name_that_is_none(name: str, backend: httpx.AsyncClient) -> None:
    response = await backend.put(f"/v1/types/{name}", json={})
    assert (response.status_code, problem(response)["code"]) == (422, "validation_failed")


async def test_a_tenant_has_a_thousand_types_and_those_can_be_changed(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    connection.execute(
        "INSERT INTO type (tenant, name, body) SELECT t, 'shop.n.' || n, CASE WHEN n < 999 THEN '{}'::json END "
        "FROM generate_series(1, 2000) n, unnest(ARRAY['default', 'other']) t"  # the second half has been deleted
    )
    new = [f"/v1/types/shop.new.{nth}" for nth in range(4)]
    answers = await asyncio.gather(*(backend.put(url, json={}) for url in new))  # there is room for two of them
    assert sorted(response.status_code for response in answers) == [200, 200, 409, 409]
    refused = await backend.put("/v1/types/shop.n.1500", json={})
    assert (refused.status_code, problem(refused)["code"]) == (409, "too_many_types")
    assert "has 1,000 types" in refused.json()["detail"]
    assert (await register(backend, "/v1/types/shop.n.7"))["version"] == 2
    assert (await backend.delete("/v1/types/shop.n.7")).status_code == 204
    assert (await register(backend, "/v1/types/shop.n.1500"))["version"] == 2
