"""A shop: an order is placed, paid, packed, shipped and delivered, unless its payment fails for good.

The order's page may be open somewhere, so its room gets every state. The buyer is told only what is worth an
interruption: a failed payment at once, a parcel on its way soon, a sale whenever there is time.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from ops.demo.story import Notify, Say, Scene, Step, Story

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.demo.cast import Person

_SHOP = {"id": "shop", "name": "The Corner Shop"}
_GOODS = (("a moss-green teapot", 28), ("two wool blankets", 95), ("a desk lamp", 49), ("a box of pencils", 12))
_FIRST_ORDER = 42


def produce(scene: Scene) -> Iterator[Step]:
    """Serve several customers side by side."""
    return scene.tell((_order(scene, number) for number in count(_FIRST_ORDER)), at_once=4, every_s=1.05)


def _order(scene: Scene, number: int) -> Story:
    buyer = scene.someone()
    goods, price = scene.random.choice(_GOODS)
    yield [
        _state(number, "placed"),
        _tell(buyer, number, "order.placed", f"Thank you! Order {number}: {goods}", body=f"€ {price} to pay."),
    ]
    while scene.perhaps(0.25):
        failed = buyer.reads(f"The payment for order {number} failed", uk=f"Помилка оплати замовлення {number}")
        yield [
            _state(number, "payment-failed"),
            # Without the buyer nothing goes on, and the goods are only kept for a while: this is urgent.
            _tell(buyer, number, "payment.failed", failed, priority="critical", body="We keep your goods for an hour."),
        ]
        if scene.perhaps(0.3):
            yield [
                _state(number, "cancelled"),
                _tell(buyer, number, "order.cancelled", f"Order {number} is cancelled", body="Nothing was charged."),
            ]
            return
    yield [_state(number, "paid", total=price)]
    yield [_state(number, "packed", parcels=1)]
    on_its_way = buyer.reads(f"Order {number} is on its way", uk=f"Замовлення {number} вже в дорозі")
    yield [
        _state(number, "shipped", carrier="Snail & Sons"),
        _tell(buyer, number, "order.shipped", on_its_way, priority="high", body="It arrives on Friday."),
    ]
    yield [_state(number, "delivered"), _tell(buyer, number, "order.delivered", f"Order {number} was delivered")]
    if scene.perhaps(0.4):
        yield [_sale(scene, number, goods)]


def _state(number: int, state: str, **more: Any) -> Say:  # noqa: ANN401  # JSON is anything
    return Say(f"shop:order:{number}", "order.updated", {"state": state, "order_id": number, **more})


def _tell(buyer: Person, number: int, what: str, title: str, **more: str) -> Notify:
    return Notify(
        {
            "to": {"user": buyer.id},
            "type": f"shop.{what}",
            "title": title,
            "data": {"order_id": number},
            "action_url": f"/orders/{number}",
            "actor": _SHOP,
            **more,
        }
    )


def _sale(scene: Scene, number: int, goods: str) -> Notify:
    """Somebody bought it, so tell a few others; whoever was away until tomorrow need not hear of it any more."""
    return Notify(
        {
            "to": {"users": [person.id for person in scene.some(4)]},
            "type": "shop.sale.started",
            "priority": "low",
            "title": f"Today only: {goods} for less",
            "data": {"like_order": number},
            "action_url": "/sale",
            "actor": _SHOP,
            "expires_at": (scene.now() + timedelta(days=1)).isoformat(),
        }
    )
