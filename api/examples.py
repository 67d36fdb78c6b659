"""What bodies look like, for the OpenAPI document: an example of each that its model does not bring itself.

Together they tell one story, of a shop and a blog. `tests/api/test_openapi.py` holds each against its schema.
"""

from __future__ import annotations

from typing import Any

_AT = "2026-03-01T12:00:00.250000Z"
_SOON = "2026-03-01T12:00:00.262000Z"
_HOUR_LATER = "2026-03-01T13:00:00Z"
_ID = "019cc2ab-5d2a-7c1e-9f0a-2b7d5c1e4f00"
_OTHER_ID = "019cc2ab-5d2b-7d30-8a41-77c0a1b2c3d4"
_COUNTS = {"unread": 3, "unseen": 1}

_SAID: dict[str, Any] = {
    "id": _ID,
    "type": "shop.order.shipped",
    "domain": "shop",
    "priority": "high",
    "title": "Order 42 is on its way",
    "body": "It arrives on Friday.",
    "data": {"order_id": 42},
    "action_url": "/orders/42",
    "actor": None,
    "collapse_key": None,
    "created_at": _AT,
    "expires_at": None,
}
_ITEM = _SAID | {
    "seq": 58,
    "collapsed": 0,
    "silent": False,
    "seen_at": None,
    "read_at": None,
    "archived_at": None,
}
_LIKED = {
    "title": "Ada liked On bells",
    "body": "",
    "action_url": None,
    "actor": {"id": "u_1", "name": "Ada", "avatar_url": None},
}
_TYPE = {
    "type": "shop.parcel.arrived",
    "version": 1,
    "updated_at": _AT,
    "priority": "high",
    "ttl_s": 86400,
    "mutable": True,
    "critical_overrides": True,
}
_TENANT = {
    "id": "acme",
    "jwks_url": None,
    "in_rotation": False,
    "ingest_per_s": 500.0,
    "retention": {"*": {"items": 10000, "age_s": 7776000}},
    "require_types": False,
    "created_at": _AT,
}
_KEY = {"name": "orders", "scopes": ["notifications:write"], "domains": ["shop"]}
_MADE_KEY = {**_KEY, "id": "b82904fb65066961", "created_at": _AT, "revoked_at": None}
_JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…"

EXAMPLES: dict[str, dict[str, Any]] = {
    # --- what is sent, and what became of it --------------------------------------------------------------------------
    "BulkItem": {
        "to": {"user": "u_1"},
        "type": "shop.order.paid",
        "title": "Order 42 is paid",
        "idempotency_key": "order-42-paid",
    },
    "BulkIn": {
        "notifications": [
            {"to": {"user": "u_1"}, "type": "shop.order.paid", "title": "Order 42 is paid"},
            {"to": {"topic": "blog:post:7"}, "type": "blog.comment.added", "title": "A new comment", "priority": "low"},
        ]
    },
    "Accepted": {"id": _ID, "status": "accepted", "created_at": _AT},
    "BulkAnswer": {
        "accepted": 1,
        "rejected": 1,
        "results": [
            {"index": 0, "status": "accepted", "id": _ID},
            {
                "index": 1,
                "status": "rejected",
                "error": {
                    "code": "validation_failed",
                    "detail": "/title: Must be given: the type has no templates to make a title from",
                    "errors": [
                        {
                            "pointer": "/title",
                            "code": "missing",
                            "detail": "Must be given: the type has no templates to make a title from",
                        }
                    ],
                },
            },
        ],
    },
    "NotificationOut": _SAID
    | {
        "to": {"users": ["u_1", "u_2"]},
        "texts": None,
        "mutable": True,
        "critical_overrides": True,
        "deliver_at": None,
        "status": "dispatched",
        "counts": {"recipients": 1, "suppressed": 1, "acked": 1, "seen": 0, "read": 0},
        "timeline": [
            {"at": _AT, "event": "accepted", "detail": "committed"},
            {"at": _SOON, "event": "dispatched", "detail": "written to 1 inbox"},
            {
                "at": _SOON,
                "event": "suppressed",
                "detail": "not delivered to one user: the user mutes the domain shop",
            },
            {"at": _SOON, "event": "pushed", "detail": "for one user to the node shop-1:8001:5f0c2a9e"},
            {"at": _SOON, "event": "acked", "detail": "a device of one user held everything up to it"},
        ],
    },
    "NotificationsPage": {
        "notifications": [_SAID | {"to": {"user": "u_1"}, "deliver_at": None, "status": "dispatched"}],
        "next": "AAZhV-__hcQBoiLMzK10E4HkgA4g6ykk",
    },
    "CancelOut": {"status": "cancelled", "cancelled": 146000, "recalled": 53990, "already_read": 10},
    "ExplainOut": {
        "user": "u_2",
        "notification": _ID,
        "reason": "suppressed",
        "verdict": "They do not have it: the user mutes the domain shop.",
        "seq": None,
        "timeline": [
            {"at": _AT, "event": "accepted", "detail": "committed"},
            {"at": _SOON, "event": "suppressed", "detail": "the user mutes the domain shop"},
        ],
    },
    # --- whom it is for, and what all of a type have in common --------------------------------------------------------
    "SubscribersOut": {"topic": "blog:post:7", "changed": 3, "rejected": 0, "errors": []},
    "SubscribersPage": {"topic": "blog:post:7", "users": ["u_1", "u_2"], "next_after": "u_2"},
    "TypeOut": _TYPE
    | {
        "schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
        "templates": {"en": {"title": "{{ n | plural: one: '# parcel', other: '# parcels' }}", "body": ""}},
        "digest": None,
    },
    "TypesPage": {"types": [_TYPE | {"has_schema": True, "locales": ["en", "uk"]}], "next_after": None},
    "OpenDigests": {
        "user": "u_2",
        "digests": [
            {
                "type": "blog.post.liked",
                "key": "On bells",
                "opened_at": _AT,
                "closes_at": _HOUR_LATER,
                "count": 1,
                "preview": {
                    **_LIKED,
                    "priority": "normal",
                    "data": {
                        "items": [{**_LIKED, "id": _ID, "data": {"post": "On bells"}, "created_at": _AT}],
                        "count": 1,
                        "more": 0,
                    },
                },
            }
        ],
        "more": False,
    },
    "ClosedDigests": {
        "user": "u_2",
        "closed": [
            {"type": "blog.post.liked", "key": "On bells", "opened_at": _AT, "count": 1, "notification": _OTHER_ID}
        ],
        "more": False,
    },
    # --- inboxes and users --------------------------------------------------------------------------------------------
    "InboxPage": {"items": [_ITEM], "next_before": 58, "counts": _COUNTS, "seq": 60},
    "Item": _ITEM,
    "DomainCounts": _COUNTS | {"domains": {"shop": {"unread": 2, "unseen": 1}, "blog": {"unread": 1, "unseen": 0}}},
    "LogPage": {
        "from": 58,
        "to": 59,
        "head": 60,
        "reset": False,
        "entries": [
            {"seq": 58, "kind": "arrival", "item": _ITEM},
            {"seq": 59, "kind": "change", "action": "read", "seqs": [12, 14], "at": _AT},
        ],
        "counts": _COUNTS,
    },
    "ItemPatch": {"read": True},
    "ActionOut": {"seq": 61, "changed": 1, "counts": {"unread": 2, "unseen": 1}},
    "EraseOut": {
        "user": "u_1",
        "revoked_at": _AT,
        "erased": {
            "deliveries": 6,
            "changes": 2,
            "notifications": 5,
            "shared_notifications": 1,
            "suppressions": 0,
            "digests": 1,
            "subscriptions": 1,
            "preferences": 1,
        },
    },
    "DisconnectOut": {"user": "u_1", "revoked_at": _AT},
    "PresenceList": {
        "users": {
            "u_1": {"status": "online", "last_seen_at": _AT},
            "u_2": {"status": "offline", "last_seen_at": None},
        }
    },
    "RoomEventOut": {"room": "shop:order:42", "seq": 9},
    "RoomLogPage": {
        "room": "shop:order:42",
        "from": 9,
        "to": 9,
        "head": 9,
        "reset": False,
        "entries": [{"seq": 9, "event": "order.updated", "data": {"status": "packed"}, "at": _AT}],
    },
    # --- who may call -------------------------------------------------------------------------------------------------
    "TokenIn": {"user": "u_1", "ttl": 3600, "rooms": ["shop:order:*"], "watch": ["*"], "locale": "uk"},
    "TokenOut": {"token": _JWT, "expires_at": _HOUR_LATER},
    "KeyIn": _KEY,
    "KeyCreated": {**_MADE_KEY, "key": "bh_b82904fb65066961_…"},
    "KeyList": {"keys": [_MADE_KEY]},
    "TenantOut": _TENANT,
    "TenantWithSecret": {**_TENANT, "secret": "4v_RYaI0b0pkC8-…"},
    "TenantsPage": {"tenants": [_TENANT], "next_after": None},
    "Problem": {
        "type": "urn:bellhop:error:validation_failed",
        "title": "The request has wrong values",
        "status": 422,
        "detail": "/to: Must have exactly one of user, users, topic and everyone; 2 given",
        "code": "validation_failed",
        "request_id": "019cc2ab-5d2c-7f55-b0c4-2d8a6e7f9a10",
        "errors": [
            {
                "pointer": "/to",
                "code": "one_audience",
                "detail": "Must have exactly one of user, users, topic and everyone; 2 given",
            }
        ],
    },
}
